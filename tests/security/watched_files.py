"""Which files this process opens, lists, makes or removes while a block runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_EVENTS = {
    "open", "os.chmod", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir",
    "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree", "subprocess.Popen",
}  # fmt: skip
_watching: list[set[str]] = []
_hooked: list[bool] = []


@contextmanager
def watched_files() -> Iterator[set[str]]:
    """The paths, as they were named. SQLite's own are not among them."""
    if not _hooked:
        # There is no way to take a hook back: one stays, and looks away between two blocks.
        sys.addaudithook(_note)
        _hooked.append(True)
    seen: set[str] = set()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


def outside(seen: set[str], *, allowed: Path) -> list[str]:
    """Those that are neither below `allowed` nor parts of Python and of this repository's own code."""
    roots = [allowed.resolve(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    return sorted(name for name in seen if not _is_code(name) and not any(_below(name, root) for root in roots))


def _below(name: str, root: Path) -> bool:
    return Path(name).resolve().is_relative_to(root)


def _is_code(name: str) -> bool:
    return name.endswith((".py", ".pyc"))


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in _EVENTS and isinstance(arguments[0], str | bytes):
        name = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode(errors="replace")
        for seen in _watching:
            seen.add(name)
