"""Reads CSV: a header line, and a row a line; cells hold text only."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from craft.core.findings import FindingCode
from craft.core.rows.answers import RowNote
from craft.core.rows.chats import MESSAGES
from craft.core.rows.columns import ColumnMap, column_of
from craft.core.rows.fields import excerpt
from craft.errors import DatasetInvalid
from craft_datasets.reading.foreign_formats import SAVE_AS_UTF8
from craft_datasets.reading.json_lines import BOM, RawRow

_SNIFFED_BYTES = 64 * 1024
_OTHER_SEPARATORS: Mapping[str, str] = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LINE_END = re.compile(rb"[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNCLOSED = "unexpected end of data"


class _Header(NamedTuple):
    """The names of the columns. Those without a name come after `named`, or have a name of their own here."""

    names: tuple[str, ...]
    unnamed: frozenset[str]
    notes: tuple[RowNote, ...]


def csv_rows(path: Path, *, max_line_bytes: int, columns: ColumnMap) -> Iterator[RawRow]:
    """Read the rows. Lines without content are skipped, and so are columns with neither a name nor content.

    Raises DatasetInvalid for a file that is no CSV with a header line, commas and UTF-8.
    """
    csv.field_size_limit(max_line_bytes)
    # Bytes that are not UTF-8 become surrogates, so that `_check_encoding` can name their line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        first = 1
        try:
            _check_separator(path, columns)
            cells = next(reader, [])
            _check_encoding(cells, reader.line_num)
            header = _header(cells, columns)
            notes = header.notes
            first = reader.line_num + 1
            for cells in reader:
                _check_encoding(cells, reader.line_num)
                if any(cells):
                    yield _row(reader.line_num, header, cells)._replace(notes=notes)
                    notes = ()
                first = reader.line_num + 1
        except csv.Error as error:
            raise _invalid(error, first, reader.line_num) from error


def _invalid(error: csv.Error, first: int, line: int) -> DatasetInvalid:
    """The error for a fault on `line` of a row that begins on line `first`."""
    if str(error) == _UNCLOSED:
        message = f"The row that begins on line {first} is not valid CSV: a quote opens a cell and none closes it."
    else:
        begins = f", in the row that begins on line {first}" if first < line else ""
        message = f"Line {line} is not valid CSV{begins}: {error}."
    return DatasetInvalid(message, hint='Quote cells that hold commas, quotes or line breaks: "like ""this""".')


def _check_separator(path: Path, columns: ColumnMap) -> None:
    """Raise DatasetInvalid for another separator than a comma: in many countries spreadsheets write semicolons."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES).removeprefix(BOM)
    first = _LINE_END.split(head, maxsplit=1)[0].decode(errors="replace")
    if _has_question([name.strip() for name in next(csv.reader([first]), [])], columns):
        return
    for separator, name in _OTHER_SEPARATORS.items():
        names = [part.strip().strip('"').strip() for part in first.split(separator)]
        if _has_question(names, columns) or (len(names) > 1 and "," not in first):
            raise DatasetInvalid(
                f"The file's first line separates its columns by {name}; the separator must be a comma.",
                hint="Save it as CSV with commas between the cells, and with cells that hold commas in double quotes.",
            )


def _check_encoding(cells: list[str], line: int) -> None:
    if any(not cell.isascii() and _SURROGATE.search(cell) for cell in cells):
        raise DatasetInvalid(f"The file is not UTF-8: line {line} holds bytes that are not.", hint=SAVE_AS_UTF8)


def _question_path(columns: ColumnMap) -> str:
    """The column that holds the question, or the chat with it."""
    return next(iter([*columns.own_paths(MESSAGES), *columns.own_paths("question")]))


def _has_question(names: list[str], columns: ColumnMap) -> bool:
    return column_of(_question_path(columns), names) in names


def _header(cells: list[str], columns: ColumnMap) -> _Header:
    """The header of a file's first line. Raises DatasetInvalid if the question has no column, or two have one name."""
    names = [name.strip() for name in cells]
    if not _has_question(names, columns):
        raise DatasetInvalid(
            f"The file's first line has no column `{excerpt(_question_path(columns))}`; it has "
            f"{excerpt(', '.join(names)) or 'none'}.",
            hint="CSV needs a header line: question,answers or question,choices,answer; lists as a|b|c or a JSON list. "
            "Where its columns are called otherwise, say with `columns` which is which.",
            param="columns" if columns.paths else None,
        )
    twice = next((name for at, name in enumerate(names) if name and name in names[:at]), None) if _many(names) else None
    if twice is not None:
        raise DatasetInvalid(
            f"Two columns of the CSV file are called `{excerpt(twice)}`.", hint="Rename or remove one of them."
        )
    unnamed = {at: f"column {at + 1}, without a name" for at, name in enumerate(names) if not name}
    trimmed = [given for given, name in zip(cells, names, strict=True) if name and given != name]
    return _Header(
        tuple(unnamed.get(at, name) for at, name in enumerate(names)),
        frozenset(unnamed.values()),
        tuple(RowNote(FindingCode.TRIMMED_HEADERS, name.strip(), repr(name)) for name in trimmed),
    )


def _many(names: list[str]) -> bool:
    """True if a name comes twice."""
    named = [name for name in names if name]
    return len(set(named)) < len(named)


def _row(number: int, header: _Header, cells: list[str]) -> RawRow:
    names = header.names
    # Spreadsheets write empty cells beyond the last column, or leave them out.
    while len(cells) > len(names) and not cells[-1]:
        cells.pop()
    may_lack = len(cells) < len(names) and all(name in header.unnamed for name in names[len(cells) :])
    if len(cells) != len(names) and not may_lack:
        return RawRow.broken(number, f"The line has {len(cells)} cells, the header {len(names)}.", ",".join(cells))
    row: dict[str, object] = {name: cell for name, cell in zip(names, cells, strict=False) if cell != ""}
    return RawRow(number, row, columns=names, has_bars=True)
