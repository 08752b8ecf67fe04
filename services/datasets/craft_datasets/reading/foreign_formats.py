"""Files that are no dataset, known by their first bytes: refused before anything parses them, with what to do."""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from craft.errors import DatasetInvalid

PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 4096
_LEAST_BINARY_SHARE = 1 / 50
_LEAST_BINARY_SHARE_OF_UTF8 = 1 / 4
"""Of control characters: random bytes have a tenth of them, and UTF-16 without its mark a half."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_TAR_MAGIC = (257, b"ustar")
SAVE_AS_UTF8 = "Save it as UTF-8 and send that."
"""What to do about another encoding."""
_READ = "Send JSONL, JSON, CSV or Parquet."
_UNPACK = f"Unpack it and send what is in it. {_READ}"


class _Foreign(NamedTuple):
    what: str
    hint: str


_BINARY = _Foreign("no text and of no form that is known", f"{_READ} Text has to be UTF-8.")
_EXCEL = _Foreign("an Excel workbook", "Save the sheet as CSV (UTF-8) and send that.")
_PAGE = _Foreign("a web page or XML", f"Is the address that of the file itself, and may everybody read it? {_READ}")
_MAGIC: tuple[tuple[bytes, _Foreign], ...] = (
    (b"\x1f\x8b", _Foreign("compressed with gzip", _UNPACK)),
    (b"BZh", _Foreign("compressed with bzip2", _UNPACK)),
    (b"\xfd7zXZ\0", _Foreign("compressed with xz", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", _Foreign("compressed with zstd", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", _Foreign("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", _Foreign("a RAR archive", _UNPACK)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _EXCEL),
    (b"SQLite format 3\0", _Foreign("a SQLite database", f"Export the table. {_READ}")),
    (b"ARROW1", _Foreign("an Arrow or Feather file", "Write it as Parquet and send that.")),
    (b"ORC", _Foreign("an ORC file", "Write it as Parquet and send that.")),
    (b"\x89HDF\r\n", _Foreign("an HDF5 file", "Write it as Parquet and send that.")),
    (b"%PDF-", _Foreign("a PDF document", _READ)),
    (b"\x89PNG", _Foreign("a picture", _READ)),
    (b"\xff\xd8\xff", _Foreign("a picture", _READ)),
    (b"\x7fELF", _Foreign("a program", _READ)),
    (b"\xff\xfe", _Foreign("text in UTF-16 or UTF-32", SAVE_AS_UTF8)),
    (b"\xfe\xff", _Foreign("text in UTF-16", SAVE_AS_UTF8)),
    (b"version https://git-lfs.github.com/spec/", _Foreign("a Git LFS pointer", "Send the file that it points to.")),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PICKLE_PROTOCOLS = b"\x02\x03\x04\x05"
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def refuse_foreign(path: Path) -> None:
    """Raises DatasetInvalid for what no reader here may touch: archives, workbooks, pickles, pages, binary formats.

    And for a file that is empty.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.removeprefix(codecs.BOM_UTF8).strip() and len(head) < _HEAD_BYTES:
        raise DatasetInvalid("The file is empty.", hint=_READ, param="file")
    found = _foreign(head)
    if found is not None:
        raise DatasetInvalid(f"The file is {found.what}, no dataset.", hint=found.hint, param="file")


def _foreign(head: bytes) -> _Foreign | None:
    if head.startswith(_ZIP):
        office = b"[Content_Types].xml" in head or b"xl/" in head
        return _EXCEL if office else _Foreign("a zip archive", _UNPACK)
    if head[:1] == b"\x80" and head[1:2] and head[1] in _PICKLE_PROTOCOLS:
        return _Foreign("a Python pickle, which is never opened here", f"Pickles run code when they are read. {_READ}")
    at, magic = _TAR_MAGIC
    if head[at:].startswith(magic):
        return _Foreign("a tar archive", _UNPACK)
    if head.lstrip().lower().startswith(_MARKUP):
        return _PAGE
    return next((foreign for magic, foreign in _MAGIC if head.startswith(magic)), _BINARY if _is_binary(head) else None)


def _is_binary(head: bytes) -> bool:
    """Whether it is neither Parquet nor text. Of a few control characters in text its reader names the row."""
    if head.startswith(PARQUET_MAGIC):
        return False
    least = _LEAST_BINARY_SHARE_OF_UTF8 if _is_utf8(head) else _LEAST_BINARY_SHARE
    return len(_CONTROL.findall(head)) > len(head) * least


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
