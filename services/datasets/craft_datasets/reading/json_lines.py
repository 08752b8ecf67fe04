"""Lines of JSON become numbered rows; a line that cannot be read becomes a row error, not a crash."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from craft.core.rows.answers import RowNote
from craft.core.rows.fields import excerpt
from craft.errors import ErrorDetail
from craft_datasets.reading.json_members import doubled_member

BOM = b"\xef\xbb\xbf"


class RawRow(NamedTuple):
    """A row as the file has it, or the reason why there is none.

    `line` counts from 1. In JSON and Parquet it counts records.
    """

    line: int
    row: dict[str, object] | None
    problem: ErrorDetail | None = None
    columns: tuple[str, ...] = ()
    """The file's columns, where it has a header; a row leaves out those without content."""
    has_bars: bool = False
    """In CSV, `a|b` in a cell is a list."""
    notes: tuple[RowNote, ...] = ()
    """Noticed in the header; with the first row."""

    @classmethod
    def broken(cls, line: int, message: str, value: object = None, *, field: str | None = None) -> "RawRow":
        """A row that cannot be read, with at most 120 characters of `value`."""
        shown = None if value is None else excerpt(value) or None
        return cls(line, None, ErrorDetail(message, field, line, shown))

    @classmethod
    def doubled(cls, line: int, name: str, text: str) -> "RawRow":
        """A row that names one member twice, so that it has no certain value."""
        return cls.broken(line, f"The object has `{excerpt(name)}` twice.", text[:120], field=excerpt(name))


def json_lines(path: Path, *, max_line_bytes: int) -> Iterator[RawRow]:
    """Read one object from each line that is not blank. No line takes more than `max_line_bytes` of memory."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(max_line_bytes + 1):
            number += 1
            if len(raw) > max_line_bytes and not raw.endswith(b"\n"):
                _skip_line(file)
                beginning = raw[:80].decode(errors="replace")
                yield RawRow.broken(number, f"The line is longer than {max_line_bytes:,} bytes.", beginning)
                continue
            line = raw.removeprefix(BOM) if number == 1 else raw
            if line.strip():
                yield _row_of(number, line)


def _skip_line(file: IO[bytes]) -> None:
    while (more := file.readline(1 << 20)) and not more.endswith(b"\n"):
        pass


def _row_of(number: int, line: bytes) -> RawRow:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        message = f"The line is not valid JSON: {error.msg}."
        try:
            text = line.decode()
        except UnicodeDecodeError:
            message, text = "The line is not UTF-8, so it is not valid JSON: save the file as UTF-8.", ""
        return RawRow.broken(number, message, line[:120].decode(errors="replace"), field=_invalid_member(text))
    if not isinstance(value, dict):
        return RawRow.broken(number, "The line is not a JSON object.", value)
    twice = doubled_member(line, value)
    return RawRow(number, value) if twice is None else RawRow.doubled(number, twice, line.decode())


def _invalid_member(text: str) -> str | None:
    """The first member with a value that Python's JSON allows and no other does: NaN, or half of a surrogate pair."""
    try:
        row = json.loads(text)
        members = row.items() if isinstance(row, dict) else ()
        return next((excerpt(name) for name, value in members if not _is_valid(value)), None)
    except (ValueError, RecursionError):
        return None


def _is_valid(value: object) -> bool:
    try:
        orjson.loads(json.dumps(value))
    except orjson.JSONDecodeError:
        return False
    return True
