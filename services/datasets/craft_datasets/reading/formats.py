"""Reads an uploaded file in any format: its rows become numbered raw rows, its broken lines row errors."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from craft.contracts.services.datasets import DatasetFormat
from craft.core.rows.columns import NO_MAP, ColumnMap
from craft.core.rows.fields import excerpt
from craft.errors import DatasetInvalid
from craft_datasets.reading.chat_lines import chat_rows
from craft_datasets.reading.csv_rows import csv_rows
from craft_datasets.reading.foreign_formats import PARQUET_MAGIC, refuse_foreign
from craft_datasets.reading.json_lines import BOM, RawRow, json_lines
from craft_datasets.reading.json_list import values
from craft_datasets.reading.json_members import doubled_member

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET_BATCH = 1000
_SNIFFED_BYTES = 64 * 1024


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
            yield from csv_rows(path, max_line_bytes=max_line_bytes, columns=columns)
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
    if not isinstance(item, dict):
        return RawRow.broken(number, "The item is not an object.", item)
    twice = doubled_member(text.encode(), item)
    return RawRow(number, item) if twice is None else RawRow.doubled(number, twice, text)


def _parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow's own pool claims 1 GiB of addresses at its first use, and each thread takes more. With malloc and one
    # thread this process keeps its limit for the data (ADR 0012).
    pa.set_memory_pool(pa.system_memory_pool())
    number = 0
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
        names = tuple(file.schema_arrow.names)
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None) if _repeat(names) else None
        if twice is not None:
            raise DatasetInvalid(
                f"Two columns of the Parquet file are called `{excerpt(twice)}`.", hint="Rename or remove one of them."
            )
        whole = pa.schema([field.with_type(_in_microseconds(field.type)) for field in file.schema_arrow])
        has_nanoseconds = whole != file.schema_arrow
        narrow = [field.name for field in file.schema_arrow if field.type in {pa.float16(), pa.float32()}]
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH, use_threads=False):
            rows = batch.cast(whole, safe=False) if has_nanoseconds else batch
            for row in rows.to_pylist(maps_as_pydicts="strict"):
                number += 1
                for name in narrow:
                    row[name] = _shortest(row[name])
                found = {name: value for name, value in row.items() if value is not None}
                yield RawRow(number, found, columns=names)
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        # Text that is not UTF-8 raises ValueError; a time beyond Python's calendar may raise OverflowError; a map that
        # has one key twice raises KeyError.
        raise DatasetInvalid(
            f"The file is not readable Parquet: {str(error)[:200]}", hint="Write it anew, or send the rows as JSONL."
        ) from error


def _in_microseconds(kind: "pa.DataType") -> "pa.DataType":
    """The type with microseconds where it has nanoseconds, which Python's own times have not."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz) if kind.unit == "ns" else kind
    return {pa.time64("ns"): pa.time64("us"), pa.duration("ns"): pa.duration("us")}.get(kind, kind)


def _repeat(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)


def _shortest(value: float | None) -> float | None:
    """The number of 32 bits as it is written: 0.1, not 0.10000000149011612."""
    if value is None:
        return None
    found = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((short for short in found if struct.pack("<f", short) == struct.pack("<f", value)), value)
