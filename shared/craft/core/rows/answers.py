"""Reads a row's accepted answers: a text, a list, or an object of either, also where a file holds them as text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from craft.core.findings import FindingCode
from craft.core.rows import fields
from craft.core.rows.fields import RowInvalid, as_text
from craft.core.rows.findings.markup import visible
from craft.core.rows.written import WrittenInvalid, read_written

_BAR = "|"
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", "⟨": "⟩", "⌊": "⌋", "⌈": "⌉"}
_PAIRED = ("$", "`", '"')
_TRUTH = {"True": "true", "False": "false"}
"""Python writes truth values so in CSV; in other formats they are `true` and `false`."""
_ADVICE = 'write a list as ["a", "b"], and a text in brackets as a list of one: ["[a, b]"]'


class RowNote(NamedTuple):
    """Something that reading a row had to decide: its kind, our name of the field, and an example."""

    code: FindingCode
    field: str
    example: str


def accepted_answers(field: str, value: object, notes: list[RowNote], *, has_bars: bool = False) -> tuple[str, ...]:
    """The answers in `value`, clean and without invisible characters. What had to be decided goes to `notes`.

    Raises RowInvalid.
    """
    found = _flat(field, written(field, value, notes, has_bars=has_bars))
    if fields.is_list(found):
        if not found:
            raise RowInvalid.of(field, "is an empty list", value)
        # A list of numbers as text is told as such.
        noted = list[RowNote]() if notes and notes[-1].code is FindingCode.NUMBER_LISTS else notes
        items = [(f"{field}[{position}]", item) for position, item in enumerate(found)]
        return tuple(_answer(name, text, noted) for name, item in items for text in _texts(name, item))
    return (_answer(field, found, notes),)


def written(field: str, value: object, notes: list[RowNote], *, has_bars: bool = False) -> object:
    """`value`, or the list or object that it writes as text; with `has_bars` also `a|b`, except for `answer`.

    Raises RowInvalid for a text that looks like a list and cannot be read without doubt.
    """
    if not isinstance(value, str):
        return value
    try:
        found = read_written(value)
    except WrittenInvalid as error:
        raise RowInvalid.of(field, f"{error}; {_ADVICE}", value) from None
    if isinstance(found, str) and has_bars and field != "answer":
        return _split_at_bars(field, value, notes)
    if field != "choices" and fields.is_list(found) and len(found) > 1 and all(_is_number(item) for item in found):
        notes.append(RowNote(FindingCode.NUMBER_LISTS, field, value))
    return found


def _flat(field: str, value: object) -> object:
    """The texts of an object (`{"text": […]}` of SQuAD, `{"value": …, "aliases": […]}` of TriviaQA) as a list."""
    if not isinstance(value, Mapping):
        return value
    if "text" in value:
        return value["text"]
    if "value" in value:
        aliases = value.get("aliases")
        return [value["value"], *(aliases if fields.is_list(aliases) else [])]
    reason = "is an object; map the member that holds the answer, such as answers=answer.name"
    raise RowInvalid.of(field, reason, dict(value))


def _texts(field: str, item: object) -> Sequence[object]:
    """The texts of an object among a list's items, such as `{"text": "a", "answer_start": 3}`; else the item."""
    found = _flat(field, item)
    return found if isinstance(item, Mapping) and fields.is_list(found) else [found]


def _answer(field: str, value: object, notes: list[RowNote]) -> str:
    """One answer as text. An object of several names of one answer is none."""
    spoken = _TRUTH.get(value) if isinstance(value, str) else as_text(value)
    if spoken is not None:
        notes.append(RowNote(FindingCode.VALUES_AS_TEXT, field, spoken))
    text = fields.text(field, spoken if spoken is not None else value)
    clean = visible(text).strip()
    if clean == text:
        return text
    notes.append(RowNote(FindingCode.INVISIBLE_CHARACTERS, field, fields.excerpt(text)))
    return fields.text(field, clean)


def _split_at_bars(field: str, cell: str, notes: list[RowNote]) -> str | list[str]:
    """The parts between bars; the whole cell where a bar stands in brackets or in a formula, such as `P(A|B)`.

    Raises RowInvalid for an empty part, such as in `|x|`.
    """
    parts = [part.strip() for part in cell.split(_BAR)]
    if len(parts) == 1 or not all(_is_whole(part) for part in parts):
        return cell
    if not all(parts):
        raise RowInvalid.of(field, f"has nothing between two bars (|), which separate texts in CSV; {_ADVICE}", cell)
    notes.append(RowNote(FindingCode.BARS_SPLIT, field, cell))
    return parts


def _is_whole(part: str) -> bool:
    """True if each bracket in `part` is closed there, and each formula and quotation ended."""
    brackets = all(part.count(opening) == part.count(closing) for opening, closing in _CLOSED_BY.items())
    return brackets and all(part.count(mark) % 2 == 0 for mark in _PAIRED)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
