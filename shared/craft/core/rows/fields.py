"""Checks single fields of a data row. An error names the field."""

import math
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeGuard

from craft.errors import ErrorDetail

EXCERPT_LENGTH = 120
MAX_TEXT_BYTES = 100_000
"""Bytes of one text of a row. No context holds a longer one, and each prompt repeats it up to four times."""
ID_LENGTH = 200
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_FLOAT = 2.0**63
_MIDNIGHT = " 00:00:00"
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows, so that a text can look like another one."""


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
    """At most 120 characters of `value`; line breaks, invisible characters and surrogates are shown as escapes."""
    shown = value[:EXCERPT_LENGTH] if isinstance(value, str) else reprlib.repr(value)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)[:EXCERPT_LENGTH]


def is_missing(value: object) -> bool:
    """True if `value` says that there is none: None, or NaN, which pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_text(value: object) -> str | None:
    """A number, truth value, date or time as text: 6, 6.5, true, 1998-01-31.

    None for anything else, and for a number that cannot be written as it was: infinite, or whole and beyond 64 bits.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # A whole number beyond 64 bits has lost digits on its way through JSON.
        return repr(value) if abs(value) < _MAX_FLOAT else None
    # The core tells no time, so it knows days and times by their own writing. Midnight without a zone is a day.
    is_written = isinstance(value, (int, Decimal)) or hasattr(value, "isoformat")
    return str(value).removesuffix(_MIDNIGHT) if is_written else None


def text(field: str, value: object) -> str:
    """`value` as text without outer white space. Raises RowInvalid if it is no text, or empty."""
    if is_missing(value):
        raise RowInvalid.of(field, "is missing", None)
    if isinstance(value, float) and as_text(value) is None:
        raise RowInvalid.of(field, "is a number too large to keep its digits; send it as text", value)
    if not isinstance(value, str):
        raise RowInvalid.of(field, f"must be text, not {type(value).__name__}", value)
    # PostgreSQL takes no NUL and UTF-8 no surrogate: one row error now is better than a lost job later.
    if "\0" in value:
        raise RowInvalid.of(field, "holds a NUL character", value)
    if not value.isascii() and _SURROGATE.search(value):
        raise RowInvalid.of(field, "holds a surrogate, so it is not valid Unicode", value)
    stripped = value.strip()
    if not stripped:
        raise RowInvalid.of(field, "is empty", value)
    if len(stripped.encode()) > MAX_TEXT_BYTES:
        raise RowInvalid.of(field, f"has more than {MAX_TEXT_BYTES:,} bytes", value)
    return stripped


def optional_text(field: str, value: object) -> str | None:
    """The same as `text`, but None, NaN and blank text mean that the field is absent; a number is taken as text."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    return text(field, as_text(value) or value)


def identifier(field: str, value: object) -> str | None:
    """A row's own id: at most 200 characters of one line, in any script. None as in `optional_text`."""
    found = optional_text(field, value)
    if found is None:
        return None
    if len(found) > ID_LENGTH:
        raise RowInvalid.of(field, f"must be at most {ID_LENGTH} characters", value)
    if any(_breaks_a_line(char) for char in found) or not any(char.isprintable() for char in found):
        raise RowInvalid.of(field, "must not hold control characters or characters that change the direction", value)
    return found


def _breaks_a_line(char: str) -> bool:
    return char in _DIRECTIONS or unicodedata.category(char) in {"Cc", "Zl", "Zp"}


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """True if `value` is a list or tuple: text and mappings are not."""
    return isinstance(value, (list, tuple))
