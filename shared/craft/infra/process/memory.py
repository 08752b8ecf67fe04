"""Memory of this machine, and of a process with all that it started. Linux; elsewhere nothing is known."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_OWN = ("RssAnon:", "RssShmem:")
"""The lines of memory that nobody can take back; pages of files are only cached."""
_OWN_SHARES = ("Pss_Anon:", "Pss_Shmem:")
"""The same, with each page divided among the processes that share it."""


def machine_memory_bytes(*, proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """The memory that this machine has, or less where this process' container may have less; None if unknown."""
    try:
        total = _kilobytes(proc / "meminfo", ("MemTotal:",))
    except OSError:
        return None
    # Version 2 of control groups, then version 1. In a container its own group is the root.
    limits = (_number(path) for path in (groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"))
    return min([total, *(limit for limit in limits if limit is not None)])


def held_memory_bytes(process_id: int, *, shared_once: bool = False, proc: Path = _PROC) -> int:
    """The memory that a process and its descendants hold; 0 for one that has ended.

    A forked process shares its parent's pages, which count for both. With `shared_once` they count once, where the
    kernel says so: it then looks at each page, which takes longer.
    """
    return sum(_held(each, proc, shared_once=shared_once) for each in _with_descendants(process_id, proc))


def _with_descendants(process_id: int, proc: Path) -> Iterator[int]:
    yield process_id
    for thread in _listed(proc / str(process_id) / "task"):
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _with_descendants(int(child), proc)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _held(process_id: int, proc: Path, *, shared_once: bool) -> int:
    if shared_once:
        with suppress(OSError):
            if shares := _kilobytes(proc / str(process_id) / "smaps_rollup", _OWN_SHARES):
                return shares
    try:
        return _kilobytes(proc / str(process_id) / "status", _OWN)
    except OSError:
        return 0


def _kilobytes(file: Path, names: tuple[str, ...]) -> int:
    """The sum of the named lines, which are in KiB, in bytes."""
    lines = (line.split() for line in file.read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words and words[0] in names)


def _number(file: Path) -> int | None:
    """The number in a file; None where there is no file, or the word `max`."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
