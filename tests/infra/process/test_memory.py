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


def test_pages_that_a_forked_process_shares_with_its_parent_can_be_counted_once() -> None:
    forks = (
        "import os, signal, sys; kept = b'x' * 2**27; child = os.fork(); child or signal.pause(); print(flush=True); "
        "sys.stdin.read(); os.kill(child, signal.SIGKILL); os.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        each, once = held_memory_bytes(process.pid), held_memory_bytes(process.pid, shared_once=True)
        process.communicate()
    assert each > 2**28
    assert 2**27 < once < 1.5 * 2**27


def test_a_kernel_that_does_not_divide_shared_pages_counts_them_for_each(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("RssAnon:\t 100 kB\nRssFile:\t 50 kB\n")
    assert held_memory_bytes(7, shared_once=True, proc=tmp_path) == 100 * 1024
    (tmp_path / "7" / "smaps_rollup").write_text("00-ff ---p 00 00:00 0   [rollup]\nPss:  70 kB\n")
    assert held_memory_bytes(7, shared_once=True, proc=tmp_path) == 100 * 1024
    (tmp_path / "7" / "smaps_rollup").write_text(
        "00-ff ---p 00 00:00 0   [rollup]\nPss_Anon:  60 kB\nPss_File:  1 kB\n"
    )
    assert held_memory_bytes(7, shared_once=True, proc=tmp_path) == 60 * 1024
