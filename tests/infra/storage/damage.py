"""The ways in which a stored artifact can break, as the tests do them to a folder."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from craft.infra.storage.verification import MANIFEST_FILE

FILE = "rows.jsonl"
Break = Callable[[Path, str], None]
"""Breaks the artifact in a folder, at one of its files."""


def flip_a_byte(folder: Path, file: str = FILE) -> None:
    """Change one byte; size and modification time stay."""
    path = folder / file
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as out:
        out.write(content)
    os.utime(path, ns=times)


def _cut(folder: Path, file: str) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[:-1])


def _zero_half(folder: Path, file: str) -> None:
    path = folder / file
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))


def _remove(folder: Path, file: str) -> None:
    (folder / file).unlink()


def _add(folder: Path, file: str) -> None:
    (folder / file).with_name("another").write_text("of somebody else")


def _link(folder: Path, file: str) -> None:
    path = folder / file
    elsewhere = folder.parent.parent / "tmp" / path.name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _no_manifest(folder: Path, file: str) -> None:
    (folder / MANIFEST_FILE).unlink()


def _empty_manifest(folder: Path, file: str) -> None:
    (folder / MANIFEST_FILE).write_text("{}")


def _no_json(folder: Path, file: str) -> None:
    (folder / MANIFEST_FILE).write_bytes(b"\x00\xff")


def _edited(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _other_digest(folder: Path, file: str) -> None:
    _edited(folder, lambda manifest: manifest.update(digest="0" * 64))


def _other_key(folder: Path, file: str) -> None:
    _edited(folder, lambda manifest: manifest.update(key="0" * 64))


def _other_files(folder: Path, file: str) -> None:
    _edited(folder, lambda manifest: manifest.update(files=[]))


def _other_counts(folder: Path, file: str) -> None:
    _edited(folder, lambda manifest: manifest.update(result={"counts": {"rows": 7}}))


def _all_gone(folder: Path, file: str) -> None:
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


BREAKS: Mapping[str, Break] = {
    "a byte flipped": flip_a_byte,
    "a file cut": _cut,
    "half of a file zeroed": _zero_half,
    "a file missing": _remove,
    "a file too many": _add,
    "a link for a file": _link,
    "no manifest": _no_manifest,
    "an empty manifest": _empty_manifest,
    "a manifest that is no JSON": _no_json,
    "another digest in the manifest": _other_digest,
    "another key in the manifest": _other_key,
    "no files in the manifest": _other_files,
    "other counts in the manifest": _other_counts,
    "nothing but the folder": _all_gone,
}
