"""Checks single fields of a data row. An error names the field."""

import math
import reprlib
from collections.abc import Sequence
from typing import TypeGuard

from craft.errors import ErrorDetail

EXCERPT_LENGTH = 120
MAX_TEXT_BYTES = 100_000
"""Bytes of one text of a row. No context holds a longer one, and each prompt repeats it up to four times."""
ID_LENGTH = 200


class RowInvalid(ValueError):
    """A row cannot become a question: the row's `field`, the `reason`, and at most 120 characters of the value."""

    def __init__(self, field: str, reason: str, excerpt: str | None) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.excerpt = excerpt

    @classmethod
    def of(cls, field: str, reason: str, value: object) -> "RowInvalid":
        """The error for `value`, shown short and without unprintable characters."""
        return cls(field, reason, None if value is None else excerpt(value))

    def detail(self, line: int, *, field: str | None = None) -> ErrorDetail:
        """The row error of the row at `line`, from 1. `field` is the field's name in the user's own rows."""
        name = field or self.field
        return ErrorDetail(f"`{name}` {self.reason}.", name, line, self.excerpt)


def excerpt(value: object) -> str:
    """At most 120 printable characters of `value`; line breaks, NUL and surrogates are shown as escapes."""
    shown = value[:EXCERPT_LENGTH] if isinstance(value, str) else reprlib.repr(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)[:EXCERPT_LENGTH]


def text(field: str, value: object) -> str:
    """`value` as text without outer white space. Raises RowInvalid if it is no text, or empty."""
    if value is None:
        raise RowInvalid.of(field, "is missing", value)
    if isinstance(value, float) and math.isnan(value):
        raise RowInvalid.of(field, "is not a number (NaN) where text is needed", value)
    if not isinstance(value, str):
        raise RowInvalid.of(field, f"must be text, not {type(value).__name__}", value)
    # PostgreSQL takes no NUL and UTF-8 no surrogate: one row error now is better than a lost job later.
    if "\0" in value:
        raise RowInvalid.of(field, "holds a NUL character", value)
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise RowInvalid.of(field, "holds a surrogate, so it is not valid Unicode", value)
    stripped = value.strip()
    if not stripped:
        raise RowInvalid.of(field, "is empty", value)
    if len(stripped.encode()) > MAX_TEXT_BYTES:
        raise RowInvalid.of(field, f"has more than {MAX_TEXT_BYTES:,} bytes", value)
    return stripped


def optional_text(field: str, value: object) -> str | None:
    """The same as `text`, but None and blank text mean that the field is absent: CSV cannot say it otherwise."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return text(field, value)


def identifier(field: str, value: object) -> str | None:
    """A row's own id: at most 200 printable characters, or a whole number. None as in `optional_text`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    found = optional_text(field, value)
    if found is not None and (len(found) > ID_LENGTH or not found.isprintable()):
        raise RowInvalid.of(field, f"must be at most {ID_LENGTH} printable characters", value)
    return found


def texts(field: str, value: object) -> tuple[str, ...]:
    """A non-empty list of texts, each clean; a lone text is a list of one."""
    if not is_list(value):
        return (text(field, value),)
    found = tuple(text(f"{field}[{position}]", item) for position, item in enumerate(value))
    if not found:
        raise RowInvalid.of(field, "is an empty list", value)
    return found


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Whether `value` is a list or tuple: text and mappings are not."""
    return isinstance(value, (list, tuple))
