"""Memory of the machine, of its container, and of a process with its descendants."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from craft.infra.process.memory import held_memory_bytes, machine_memory_bytes

GIB = 2**30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(f"MemTotal:       {16 * 2**20} kB\nMemFree:        1 kB\n")
    return folder


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("memory.max", "max\n", 16 * GIB),
        ("memory.max", f"{4 * GIB}\n", 4 * GIB),
        ("memory.max", f"{64 * GIB}\n", 16 * GIB),
        ("memory/memory.limit_in_bytes", f"{2 * GIB}\n", 2 * GIB),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 16 * GIB),
        ("other", "1", 16 * GIB),
    ],
)
def test_a_container_has_what_its_group_may_have(
    proc: Path, tmp_path: Path, file: str, text: str, expected: int
) -> None:
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / file).write_text(text)
    assert machine_memory_bytes(proc=proc, groups=tmp_path / "groups") == expected


def test_where_nothing_is_known_there_is_no_number(tmp_path: Path) -> None:
    assert machine_memory_bytes(proc=tmp_path, groups=tmp_path) is None
    assert held_memory_bytes(os.getpid(), proc=tmp_path) == 0


def test_this_machine_has_memory() -> None:
    assert 2**28 < (machine_memory_bytes() or 0) < 2**50


def test_a_process_holds_what_its_own_processes_hold_and_no_reserved_pages() -> None:
    holder = (
        "import mmap, sys; kept = b'x' * 2**27; reserved = mmap.mmap(-1, 2**29); print(flush=True); sys.stdin.read()"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = held_memory_bytes(process.pid)
        process.communicate()
    assert 2**27 < held < 2**28
    assert held_memory_bytes(process.pid) == 0
