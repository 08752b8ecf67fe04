"""Words for input that a contract refuses, for people who know JSON and not the library that checks it."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from craft.contracts.base import NAME, SHA256
from craft.contracts.spec.chats import ARGUMENT_NAME
from craft.contracts.spec.jobs import MODEL_AT_REVISION, MODEL_ID, REVISION

_MAX_SHOWN_LENGTH = 60
_MAX_SHOWN_BITS = 200
_MAX_KNOWN_FIELDS = 8
_ID = re.compile(r"\^(?P<prefix>[a-z]{4})_\[0-9a-hjkmnp-tv-z\]\{26\}\$")
_EXAMPLE_ID = "01jgywz3x4v5q6r7s8t9vawbxc"
_NAME_WORDS = "must be a name of small letters, digits, `.`, `_` and `-`"
_PATTERNS: Mapping[str, str] = {
    MODEL_ID: "must be a model such as owner/name: letters, digits, `.`, `_` and `-`, with at most one `/`",
    MODEL_AT_REVISION: "must be a model such as owner/name or owner/name@revision",
    REVISION: "must be a revision such as main: letters, digits, `.`, `_` and `-`",
    NAME: _NAME_WORDS,
    ARGUMENT_NAME: "must be a variable's name: a letter, then letters, digits and `_`",
    SHA256: "must be a SHA-256: 64 digits and letters from a to f",
    r"^[^\x00]*$": "must be text without the character NUL",
    r"^[a-z]{2,3}$": "must be the code of a language, such as en",
    r"^[A-Z]$": "must be one capital letter",
    r"^[\x21-\x7e]+$": "must be ASCII without blanks",
}
_EXAMPLE_TIME = "2025-01-31T09:30:00Z"
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "none_required": "must be null, not {input}",
    "greater_than": "must be above {gt}, not {input}",
    "greater_than_equal": "must be at least {ge}, not {input}",
    "less_than": "must be below {lt}, not {input}",
    "less_than_equal": "must be at most {le}, not {input}",
    "multiple_of": "must be a multiple of {multiple_of}, not {input}",
    "finite_number": "must be a finite number",
    "too_short": "must have at least {min_length} {items}, not {actual_length}",
    "too_long": "may have at most {max_length} {items}",
    "string_unicode": "must be text in UTF-8",
    "string_too_short": "must have at least {min_length} {characters}",
    "string_too_long": "may have at most {max_length} {characters}",
    "string_not_ascii": "may have ASCII characters only",
    "enum": "must be {expected}, not {input}",
    "literal_error": "must be {expected}, not {input}",
    "int_parsing_size": "has too many digits",
    "json_invalid": "is no JSON: {error}",
    "json_type": "must be JSON",
    "invalid_key": "must have text as keys",
    "recursion_loop": "is nested too deeply",
    "recursion_depth_exceeded": "is nested too deeply",
    "union_tag_invalid": "must have {discriminator} of {expected_tags}, not {tag}",
    "union_tag_not_found": "must have {discriminator}, the kind of this object",
    "argument_type": "must be true, false, a number or a short text, not {input}",
    "timezone_aware": f"must have a time zone, as {_EXAMPLE_TIME} has",
    "datetime_past": "must be in the past",
    "datetime_future": "must be in the future",
    "url_scheme": "must begin with {expected_schemes}",
    "url_too_long": "may have at most {max_length} {characters}",
    "bytes_too_short": "must have at least {min_length} bytes",
    "bytes_too_long": "may have at most {max_length} bytes",
}
_NEEDED: Mapping[str, str] = {
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "deque": "a list",
    "iterable": "a list",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "date": "a date such as 2025-01-31",
    "time": "a time of day such as 09:30",
    "datetime": f"a time such as {_EXAMPLE_TIME}",
    "time_delta": "a duration in seconds",
    "url": "an address such as https://example.org/rows.jsonl",
    "uuid": "a UUID",
    "bytes": "text",
}
"""The needed value by the first words of an error's type: `int_type`, `int_parsing`, `int_from_float`."""
_OBJECTS = frozenset({"model_type", "model_attributes_type", "dict_type", "mapping_type", "dataclass_type"})
_OWN_WORDS = frozenset({"value_error", "assertion_error"})
_ELSE = "cannot be used here"


def validation_message(invalid: Mapping[str, Any], *, body: type[BaseModel] | None = None) -> str:
    """The message of a pydantic error, to be read after the field's name. Messages of our own validators stay.

    `body` is the model of the whole input: with it, the message names fields that exist.
    """
    kind, path = str(invalid.get("type", "")), _path(invalid.get("loc", ()))
    if kind in _OWN_WORDS:
        return str(invalid.get("msg", _ELSE)).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _OBJECTS:
        return _object_needed(invalid.get("input"), _model_at(body, path))
    if kind == "extra_forbidden":
        return _unknown_field(path, _model_at(body, path[:-1]))
    if kind == "string_pattern_mismatch":
        words = pattern_words(str(_context(invalid).get("pattern")), _examples(_model_at(body, path[:-1]), path))
        return f"{words}, not {shown(invalid.get('input'))}"
    if kind == "string_too_short" and _context(invalid).get("min_length") == 1:
        return "must not be empty"
    return _words(kind, invalid)


def sentence(field: str | None, message: str) -> str:
    """A message of `validation_message` with the field's name, as a sentence."""
    if not field:
        return f"{message[:1].upper()}{message[1:]}."
    link = " " if message.startswith(("must ", "may ", "is ", "has ", "cannot ")) else ": "
    return f"`{field}`{link}{message}."


def pattern_words(pattern: str, examples: Sequence[object] = ()) -> str:
    """The words for a regular expression of our contracts: its own, the field's first example, or the expression."""
    identifier = _ID.fullmatch(pattern)
    if identifier is not None:
        return f"must be an id such as {identifier['prefix']}_{_EXAMPLE_ID}"
    words = _PATTERNS.get(pattern)
    if words is None:
        words = f"must have the form of {shown(examples[0])}" if examples else f"must have the form {pattern}"
    return words


def shown(value: object) -> str:
    """A value of the input in a few words: short texts and numbers as they are, and the type of others."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            short = value if len(value) <= _MAX_SHOWN_LENGTH else f"{value[: _MAX_SHOWN_LENGTH - 1]}…"
            return f'"{short}"'
        case int():
            return str(value) if value.bit_length() <= _MAX_SHOWN_BITS else "a number of many digits"
        case float():
            return str(value)
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return "a value of another type"


def _words(kind: str, invalid: Mapping[str, Any]) -> str:
    context = _context(invalid)
    words = _WORDS.get(kind)
    if words is not None:
        counted = context.get("min_length", context.get("max_length"))
        plural = "" if counted == 1 else "s"
        given = {"input": shown(invalid.get("input")), "items": f"item{plural}", "characters": f"character{plural}"}
        return words.format_map({**given, **context})
    parts = kind.split("_")
    # The longest beginning counts: `time_delta_type` is no `time`.
    known = ("_".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    needed = next((_NEEDED[start] for start in known if start in _NEEDED), None)
    return _ELSE if needed is None else f"must be {needed}, not {shown(invalid.get('input'))}"


def _context(invalid: Mapping[str, Any]) -> Mapping[str, Any]:
    return invalid.get("ctx") or {}


def _path(location: Sequence[int | str]) -> tuple[int | str, ...]:
    return tuple(location[1:] if location and location[0] == "body" else location)


def _object_needed(value: object, model: type[BaseModel] | None) -> str:
    example = "" if model is None else f" such as {_example(model)}"
    return f"must be an object{example}, not {shown(value)}"


def _example(model: type[BaseModel]) -> str:
    """An object with one field of the model: the first that is required, else the first."""
    fields = model.model_fields
    name = next((name for name, field in fields.items() if field.is_required()), next(iter(fields), None))
    return "{}" if name is None else json.dumps({name: _example_value(fields[name])}, ensure_ascii=False)


def _example_value(field: FieldInfo) -> object:
    if field.examples:
        return field.examples[0]
    return field.default if isinstance(field.default, bool | int | float | str) else "…"


def _unknown_field(path: Sequence[int | str], model: type[BaseModel] | None) -> str:
    if model is None or not path:
        return "is not a field here"
    names = list(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    if close:
        return f"is not a field here: did you mean `{close[0]}`?"
    listed = ", ".join(names) if len(names) <= _MAX_KNOWN_FIELDS else f"{', '.join(names[:_MAX_KNOWN_FIELDS])} …"
    return f"is not a field here; there are {listed}"


def _examples(model: type[BaseModel] | None, path: Sequence[int | str]) -> Sequence[object]:
    """The examples of the field in which the path ends."""
    field = None if model is None else model.model_fields.get(str(path[-1]))
    return field.examples or () if field is not None else ()


def _model_at(body: type[BaseModel] | None, path: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of the value at this path of the body; None where the value is no model."""
    model = body
    for part in path:
        # A number is a place in a list, whose items have the model that was found in the list's type.
        if isinstance(part, str):
            field = None if model is None else model.model_fields.get(part)
            model = None if field is None else _model_in(field.annotation)
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(part) for part in get_args(annotation))
    return next((model for model in inner if model is not None), None)
