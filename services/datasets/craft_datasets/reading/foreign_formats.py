"""Refuses files that are no dataset by their first bytes, before anything parses them, and says what to do instead."""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from craft.errors import DatasetInvalid

PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 4096
_MIN_BINARY_SHARE = 1 / 50
_MIN_BINARY_SHARE_OF_UTF8 = 1 / 4
"""The share of control characters: random bytes have a tenth, UTF-16 without its byte order mark a half."""
_MIN_NUL_SHARE = 0.8
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_TAR_MAGIC = (257, b"ustar")
SAVE_AS_UTF8 = "Save it as UTF-8 and send that."
"""The advice about another encoding."""
_READ = "Send JSONL, JSON, CSV or Parquet."
_UNPACK = f"Unpack it and send what is in it. {_READ}"


class _ForeignFormat(NamedTuple):
    description: str
    hint: str


_BINARY = _ForeignFormat("no text and of no form that is known", f"{_READ} Text has to be UTF-8.")
_UTF_16 = _ForeignFormat("text in UTF-16", SAVE_AS_UTF8)
_EXCEL = _ForeignFormat("an Excel workbook", "Save the sheet as CSV (UTF-8) and send that.")
_PAGE = _ForeignFormat(
    "a web page or XML", f"Is the address that of the file itself, and may everybody read it? {_READ}"
)
_MAGIC: tuple[tuple[bytes, _ForeignFormat], ...] = (
    (b"\x1f\x8b", _ForeignFormat("compressed with gzip", _UNPACK)),
    (b"BZh", _ForeignFormat("compressed with bzip2", _UNPACK)),
    (b"\xfd7zXZ\0", _ForeignFormat("compressed with xz", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", _ForeignFormat("compressed with zstd", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", _ForeignFormat("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", _ForeignFormat("a RAR archive", _UNPACK)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXCEL),
    (b"SQLite format 3\0", _ForeignFormat("a SQLite database", f"Export the table. {_READ}")),
    (b"ARROW1", _ForeignFormat("an Arrow or Feather file", "Write it as Parquet and send that.")),
    (b"ORC", _ForeignFormat("an ORC file", "Write it as Parquet and send that.")),
    (b"\x89HDF\r\n", _ForeignFormat("an HDF5 file", "Write it as Parquet and send that.")),
    (b"%PDF-", _ForeignFormat("a PDF document", _READ)),
    (b"\x89PNG", _ForeignFormat("a picture", _READ)),
    (b"\xff\xd8\xff", _ForeignFormat("a picture", _READ)),
    (b"\x7fELF", _ForeignFormat("a program", _READ)),
    (b"\xff\xfe", _ForeignFormat("text in UTF-16 or UTF-32", SAVE_AS_UTF8)),
    (b"\xfe\xff", _UTF_16),
    (
        b"version https://git-lfs.github.com/spec/",
        _ForeignFormat("a Git LFS pointer", "Send the file that it points to."),
    ),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PICKLE_PROTOCOLS = b"\x02\x03\x04\x05"
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def refuse_foreign(path: Path) -> None:
    """Refuse an empty file, and a file that no reader here may open.

    Raises DatasetInvalid for archives, workbooks, pickles, web pages and binary formats.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.removeprefix(codecs.BOM_UTF8).strip() and len(head) < _HEAD_BYTES:
        raise no_rows()
    found = _foreign(head)
    if found is not None:
        raise DatasetInvalid(f"The file is {found.description}, no dataset.", hint=found.hint, param="file")


def no_rows() -> DatasetInvalid:
    """The error for a dataset without a row, in a file or in a request."""
    return DatasetInvalid(
        "The dataset is empty: it has no rows.",
        hint=f"{_READ} Open-ended rows need `question` and `answers`; multiple choice `question`, `choices`, `answer`.",
        param="file",
    )


def _foreign(head: bytes) -> _ForeignFormat | None:
    if head.startswith(_ZIP):
        office = b"[Content_Types].xml" in head or b"xl/" in head
        return _EXCEL if office else _ForeignFormat("a zip archive", _UNPACK)
    if head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        return _ForeignFormat(
            "a Python pickle, which is never opened here", f"Pickles run code when they are read. {_READ}"
        )
    at, magic = _TAR_MAGIC
    # Text may say "custard" just there; a tar header has NULs before its magic, and text has none.
    if head[at:].startswith(magic) and b"\0" in head[:at]:
        return _ForeignFormat("a tar archive", _UNPACK)
    if head.lstrip().lower().startswith(_MARKUP):
        return _PAGE
    if _is_utf16(head):
        return _UTF_16
    return next((foreign for magic, foreign in _MAGIC if head.startswith(magic)), _BINARY if _is_binary(head) else None)


def _is_utf16(head: bytes) -> bool:
    """True if nearly every second byte is NUL and hardly another one, as in UTF-16 without a byte order mark."""
    even, odd = (head[at::2].count(0) / max(1, len(head[at::2])) for at in (0, 1))
    return max(even, odd) > _MIN_NUL_SHARE and min(even, odd) < 1 - _MIN_NUL_SHARE


def _is_binary(head: bytes) -> bool:
    """True if the file is neither Parquet nor text. Text may hold a few control characters: its reader checks them."""
    if head.startswith(PARQUET_MAGIC):
        return False
    least = _MIN_BINARY_SHARE_OF_UTF8 if _is_utf8(head) else _MIN_BINARY_SHARE
    return len(_CONTROL.findall(head)) > len(head) * least


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
