"""Reads an uploaded file in any format: its rows become numbered raw rows, its broken lines row errors."""

import ast
import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson

from craft.contracts.services.datasets import DatasetFormat
from craft.core.rows.columns import MESSAGES, NO_MAP, ColumnMap
from craft.core.rows.fields import excerpt
from craft.errors import DatasetInvalid
from craft_datasets.reading.chat_lines import chat_rows
from craft_datasets.reading.foreign_formats import PARQUET_MAGIC, SAVE_AS_UTF8, refuse_foreign
from craft_datasets.reading.json_lines import BOM, RawRow, json_lines
from craft_datasets.reading.json_list import values

_PARQUET_BATCH = 1000
_SNIFFED_BYTES = 64 * 1024
_LIST_COLUMNS = ("answers", "choices")
_LIST_SEPARATOR = "|"
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_LINE_END = re.compile(rb"[\r\n]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def sniff(path: Path) -> DatasetFormat:
    """Tell the format by the first bytes. Names and media types are not trusted."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES).removeprefix(BOM)
    if head.startswith(PARQUET_MAGIC):
        return DatasetFormat.PARQUET
    text = head.lstrip()
    if text.startswith(b"["):
        return DatasetFormat.JSON
    if text.startswith(b"{"):
        return DatasetFormat.JSONL
    return DatasetFormat.CSV


def read_raw(
    path: Path, *, max_line_bytes: int, columns: ColumnMap = NO_MAP, chat_lines: bool = False
) -> Iterator[RawRow]:
    """Read the rows of a file. Its bytes decide the format; only `chat_lines` has to be said.

    Raises DatasetInvalid for a file in none of the formats.
    """
    refuse_foreign(path)
    if chat_lines:
        yield from chat_rows(json_lines(path, max_line_bytes=max_line_bytes))
        return
    match sniff(path):
        case DatasetFormat.PARQUET:
            yield from _parquet(path)
        case DatasetFormat.JSON:
            yield from _json(path)
        case DatasetFormat.CSV:
            yield from _csv(path, max_line_bytes, columns)
        case _:
            yield from json_lines(path, max_line_bytes=max_line_bytes)


def _json(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, text in enumerate(values(file), start=1):
            yield _json_item(number, text)


def _json_item(number: int, text: str) -> RawRow:
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return RawRow.broken(number, f"The item is not valid JSON: {error.msg}.", text[:120])
    return RawRow(number, item) if isinstance(item, dict) else RawRow.broken(number, "The item is not an object.", item)


def _csv(path: Path, max_line_bytes: int, columns: ColumnMap) -> Iterator[RawRow]:
    csv.field_size_limit(max_line_bytes)
    # Bytes that are not UTF-8 become surrogates, so that `_check_encoding` can name their line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            _check_separator(path, columns)
            header = next(reader, [])
            _check_encoding(header, reader.line_num)
            _check_header(header, columns)
            lists = [columns.paths.get(name, name) for name in _LIST_COLUMNS]
            for cells in reader:
                _check_encoding(cells, reader.line_num)
                if cells:
                    yield _csv_row(reader.line_num, header, cells, lists)
        except csv.Error as error:
            raise DatasetInvalid(
                f"Line {reader.line_num + 1} is not valid CSV: {error}.",
                hint='Quote cells that hold commas, quotes or line breaks: "like ""this""".',
            ) from error


def _check_separator(path: Path, columns: ColumnMap) -> None:
    """Raise DatasetInvalid for another separator than a comma: in many countries spreadsheets write semicolons."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES).removeprefix(BOM)
    first = _LINE_END.split(head, maxsplit=1)[0].decode(errors="replace")
    if _question_column(columns) in next(csv.reader([first]), []):
        return
    for separator, name in _OTHER_SEPARATORS.items():
        names = [part.strip().strip('"') for part in first.split(separator)]
        if _question_column(columns) in names or (len(names) > 1 and "," not in first):
            raise DatasetInvalid(
                f"The file's first line separates its columns by {name}; the separator must be a comma.",
                hint="Save it as CSV with commas between the cells, and with cells that hold commas in double quotes.",
            )


def _check_encoding(cells: list[str], line: int) -> None:
    if any(not cell.isascii() and _SURROGATE.search(cell) for cell in cells):
        raise DatasetInvalid(f"The file is not UTF-8: line {line} holds bytes that are not.", hint=SAVE_AS_UTF8)


def _question_column(columns: ColumnMap) -> str:
    """The column that holds the question, or the chat with it."""
    return columns.paths.get(MESSAGES) or columns.paths.get("question", "question")


def _check_header(header: list[str], columns: ColumnMap) -> None:
    column = _question_column(columns)
    if column not in header:
        raise DatasetInvalid(
            f"The file's first line has no column `{excerpt(column)}`; it has {excerpt(', '.join(header)) or 'none'}.",
            hint="CSV needs a header line: question,answers or question,choices,answer; lists as a|b|c or a JSON list. "
            "Where its columns are called otherwise, say with `columns` which is which.",
            param="columns" if columns.paths else None,
        )
    if len(set(header)) != len(header):
        raise DatasetInvalid("Two columns of the CSV file have the same name.")


def _csv_row(number: int, header: list[str], cells: list[str], lists: list[str]) -> RawRow:
    if len(cells) != len(header):
        return RawRow.broken(number, f"The line has {len(cells)} cells, the header {len(header)}.", ",".join(cells))
    row: dict[str, object] = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    for name in lists:
        cell = row.get(name)
        if isinstance(cell, str):
            row[name] = _list_of(cell)
    return RawRow(number, row)


def _list_of(cell: str) -> object:
    if cell.lstrip().startswith("["):
        # It is JSON, or a list as Python writes it (so does pandas), or a text that begins with a bracket.
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(cell)
        # Python's parser raises MemoryError where a list is nested too deeply.
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(cell.strip())
    return [part.strip() for part in cell.split(_LIST_SEPARATOR)]


def _parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow's own pool claims 1 GiB of addresses at its first use, and each thread takes more. With malloc and one
    # thread this process keeps its limit for the data (ADR 0012).
    pa.set_memory_pool(pa.system_memory_pool())
    number = 0
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
        names = file.schema_arrow.names
        if len(set(names)) != len(names):
            raise DatasetInvalid("Two columns of the Parquet file have the same name.")
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield RawRow(number, {name: value for name, value in row.items() if value is not None})
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        # Text that is not UTF-8 raises ValueError; a time beyond Python's calendar may raise OverflowError.
        raise DatasetInvalid(f"The file is not readable Parquet: {str(error)[:200]}") from error
