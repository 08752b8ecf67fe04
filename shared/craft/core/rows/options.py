"""Reads the options of a multiple-choice row and the one that its answer means."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from craft.core.questions import MAX_CHOICES, MIN_CHOICES, letters
from craft.core.rows import fields
from craft.core.rows.fields import RowInvalid, as_text

_MAX_NAMES = 500
_OPTION_COLUMN = re.compile(
    r"(?P<stem>(?:options?|choices?|opt|op|endings?|sol|solution|alternative|answer|ans|)[ _.-]?)"
    r"(?P<mark>\d{1,2}|[a-z])",
    re.IGNORECASE,
)
_WRAPPED_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_WHOLE_NUMBER = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.0)?")
_KEYS = "give an option's letter, its index, or its exact text"
_LABEL_MEMBERS = ("label", "key", "id", "letter")
_TEXT_MEMBERS = ("text", "value", "content")


@dataclass(frozen=True, slots=True)
class OptionColumns:
    """One column per option, in order. `base` is the number from which their names count; 0 for letters.

    A name is empty where the columns have a gap.
    """

    names: tuple[str, ...]
    base: int

    def values(self, row: Mapping[str, object]) -> list[object]:
        """The row's options; those that are missing at the end are left out."""
        found = [row.get(name) for name in self.names]
        while found and (fields.is_missing(found[-1]) or found[-1] == ""):
            found.pop()
        return found


class NumberKey(NamedTuple):
    """A key that was read as a number among `options` options."""

    number: int
    options: int


class KeyOutOfRange(RowInvalid):
    """The key is a number that no option has."""

    def __init__(self, key: NumberKey, base: int) -> None:
        last = key.options - 1 + base
        super().__init__("answer", f"must be an index from {base} to {last}", str(key.number))
        self.key = key


class Options(NamedTuple):
    """The texts of the options, and their labels; () where they have none. `are_numbers` if all came as numbers."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    are_numbers: bool = False


class RightOption(NamedTuple):
    """The position of the right option, from 0. `key` if it was given as a number."""

    position: int
    key: NumberKey | None = None


@lru_cache(maxsize=256)
def option_columns(names: tuple[str, ...]) -> OptionColumns | None:
    """The columns that hold an option each: `A`, `B`; `option1`, `option2`; `opa`, `opb`; `choice_0`, `choice_1`."""
    families: dict[tuple[str, bool], dict[int, str]] = {}
    for name in names[:_MAX_NAMES]:
        found = _OPTION_COLUMN.fullmatch(name.strip())
        if found is None:
            continue
        stem, mark = found["stem"].casefold(), found["mark"]
        if mark.isdecimal() and stem.rstrip(" _.-") in {"", "answer", "ans"}:
            # answer1 and answer2 may both be right.
            continue
        # Bare small letters are names of many things.
        stem = stem or ("upper" if mark.isupper() else "lower")
        number = int(mark) if mark.isdecimal() else ord(mark.casefold()) - ord("a")
        families.setdefault((stem, mark.isdecimal()), {}).setdefault(number, name)
    found_families = [_family(members, stem=stem, counts=counts) for (stem, counts), members in families.items()]
    return max((each for each in found_families if each), key=lambda each: len(each.names), default=None)


def _family(members: Mapping[int, str], *, stem: str, counts: bool) -> OptionColumns | None:
    base = 1 if counts and 0 not in members else 0
    names: list[str] = []
    for number in range(base, base + MAX_CHOICES):
        # One column may lack in a row; what comes after a wider gap means something else.
        if number not in members and number + 1 not in members:
            break
        names.append(members.get(number, ""))
    is_family = base in members and len([name for name in names if name]) >= (3 if stem == "lower" else MIN_CHOICES)
    return OptionColumns(tuple(names), base) if is_family else None


def options(value: object) -> Options:
    """The options of a row: texts; objects with `label` and `text`, as ARC has them; an object of labels and texts.

    Raises RowInvalid.
    """
    found = _labelled(value) if isinstance(value, Mapping) else _listed(value)
    if not MIN_CHOICES <= len(found.texts) <= MAX_CHOICES:
        reason = f"must be {MIN_CHOICES} to {MAX_CHOICES} options, not {len(found.texts)}"
        raise RowInvalid.of("choices", reason, value)
    if len(set(found.labels)) != len(found.labels):
        raise RowInvalid.of("choices", "has one label twice", value)
    return found


def _listed(value: object) -> Options:
    if not fields.is_list(value):
        raise RowInvalid.of("choices", "must be a list of options", value)
    if any(isinstance(item, Mapping) for item in value):
        items = [item if isinstance(item, Mapping) else {} for item in value]
        return Options(
            tuple(_text(f"choices[{n}].label", _member(item, _LABEL_MEMBERS)) for n, item in enumerate(items)),
            tuple(_text(f"choices[{n}].text", _member(item, _TEXT_MEMBERS)) for n, item in enumerate(items)),
        )
    are_numbers = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    return Options((), tuple(_text(f"choices[{n}]", item) for n, item in enumerate(value)), are_numbers)


def _labelled(value: Mapping[str, object]) -> Options:
    if fields.is_list(value.get("label")) or fields.is_list(value.get("text")):
        labels, texts = (_texts(f"choices.{name}", value.get(name)) for name in ("label", "text"))
        if len(labels) != len(texts):
            raise RowInvalid.of("choices", f"has {len(labels)} labels for {len(texts)} texts", value)
        return Options(labels, texts)
    # An object whose members are the options: {"A": "Oslo", "B": "Rome"}.
    given = {label: text for label, text in value.items() if not fields.is_missing(text)}
    return Options(tuple(given), tuple(_text(f"choices.{label}", text) for label, text in given.items()))


def _member(item: Mapping[str, object], names: Sequence[str]) -> object:
    return next((item[name] for name in names if name in item), None)


def _text(field: str, value: object) -> str:
    return fields.text(field, as_text(value) or value)


def _texts(field: str, value: object) -> tuple[str, ...]:
    return tuple(_text(f"{field}[{n}]", item) for n, item in enumerate(value if fields.is_list(value) else [value]))


def right_option(value: object, given: Options, *, base: int = 0) -> RightOption:
    """The option that `answer` means: a label, a letter, an index from `base`, or the option's own text.

    Raises RowInvalid if two readings differ, because a wrong key is worse than no row.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _numbered(value, given, base)
    is_truth = isinstance(value, bool)
    answer = as_text(value) if isinstance(value, (bool, float)) else None
    answer = answer or fields.text("answer", value)
    label = _label(answer, given.labels)
    if label is not None:
        return RightOption(label)
    readings = {n for n, text in enumerate(given.texts) if answer == (text.casefold() if is_truth else text)}
    is_own_text = bool(readings)
    key = None if given.labels else _digits(answer, len(given.texts))
    if not given.labels:
        readings |= _letter_readings(answer, len(given.texts))
        if key is not None and 0 <= key.number - base < key.options:
            readings.add(key.number - base)
    if not readings:
        if key is not None:
            raise KeyOutOfRange(key, base)
        raise RowInvalid.of("answer", f"is not among the choices; {_KEYS}", value)
    if len(readings) > 1:
        raise RowInvalid.of("answer", "can mean more than one option; give its letter, or its index as a number", value)
    # A number that is an option's own text says nothing about where keys begin.
    return RightOption(readings.pop(), None if is_own_text else key)


def _label(answer: str, labels: Sequence[str]) -> int | None:
    """The position of the label that `answer` is: exactly, or without regard to case, or as `(A)`, `A.`, `1.0`."""
    if answer in labels:
        return labels.index(answer)
    bare = _WRAPPED_LETTER.fullmatch(answer) or _WHOLE_NUMBER.fullmatch(answer)
    same = [at for at, label in enumerate(labels) if label.casefold() == (bare[1] if bare else answer).casefold()]
    return same[0] if len(same) == 1 else None


def _numbered(value: int, given: Options, base: int) -> RightOption:
    if str(value) in given.labels:
        return RightOption(given.labels.index(str(value)))
    key = NumberKey(value, len(given.texts))
    in_range = 0 <= value - base < key.options
    own = given.texts.index(str(value)) if given.are_numbers and str(value) in given.texts else None
    if own is not None and in_range and own != value - base:
        raise RowInvalid.of("answer", "can mean an option's index or the option's own number; give its letter", value)
    if own is not None:
        return RightOption(own)
    if not in_range:
        raise KeyOutOfRange(key, base)
    return RightOption(value - base, key)


def _letter_readings(answer: str, count: int) -> set[int]:
    offered, found = letters(count), _WRAPPED_LETTER.fullmatch(answer)
    letter = found[1].upper() if found else ""
    return {offered.index(letter)} if letter in offered else set()


def _digits(answer: str, count: int) -> NumberKey | None:
    """The number that a text of digits is: CSV has no others. pandas writes `1.0` where keys are missing elsewhere."""
    found = _WHOLE_NUMBER.fullmatch(answer)
    return NumberKey(int(found[1]), count) if found else None
