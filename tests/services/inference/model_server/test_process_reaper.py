"""The process reaper: its command never outlives its owner. Real processes, no vLLM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PATIENCE_SECONDS = 20.0
REAPER = "craft_inference.model_server.process_reaper"
SHORT_GRACE = f"import sys; from {REAPER} import main; sys.exit(main(sys.argv[1:], grace_seconds=0.1))"
OWNER = f"""
import os, subprocess, sys
read, write = os.pipe()
reaper = subprocess.Popen([sys.executable, "-m", "{REAPER}", str(read), *sys.argv[1:]],
                         pass_fds=(read,), start_new_session=True)
os.close(read)
print(reaper.pid, flush=True)
reaper.wait()
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Reaped:
    """A reaper with a command; the test has the other end of its lifeline."""

    def __init__(self, *command: str, program: tuple[str, ...] = ("-m", REAPER)) -> None:
        read, self._lifeline = os.pipe()
        self.popen = subprocess.Popen(
            [sys.executable, *program, str(read), *command], pass_fds=(read,), start_new_session=True
        )
        os.close(read)

    def close_lifeline(self) -> int:
        os.close(self._lifeline)
        return self.popen.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._lifeline)
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds that no other process sleeps, by which the test finds its own processes."""
    seconds = f"1000.{os.getpid()}{time.monotonic_ns()}"
    yield seconds
    for process in sleeping(seconds):
        process.kill()


def sleeping(seconds: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and words[:2] == ["sleep", seconds]:
            found.append(process)
    return found


def test_the_commands_exit_code_is_the_reapers() -> None:
    for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)):
        reaped = Reaped("sh", "-c", script)
        assert reaped.popen.wait(PATIENCE_SECONDS) == code
        reaped.close()


def test_a_command_that_does_not_exist_ends_the_reaper(capfd: pytest.CaptureFixture[str]) -> None:
    reaped = Reaped("/no/such/program")
    assert reaped.popen.wait(PATIENCE_SECONDS) == 1
    reaped.close()
    assert "No such file" in capfd.readouterr().err


def test_a_closed_lifeline_ends_everything_before_the_reaper(mark: str) -> None:
    reaped = Reaped("sh", "-c", f"sleep {mark} & sleep {mark}")
    until(lambda: len(sleeping(mark)) == 2)
    reaped.close_lifeline()
    assert sleeping(mark) == []


def test_what_left_the_group_or_was_left_behind_ends_too(mark: str) -> None:
    reaped = Reaped("sh", "-c", f"setsid sleep {mark} & (setsid setsid sleep {mark} &) ; sleep {mark}")
    until(lambda: len(sleeping(mark)) == 3)
    reaped.close_lifeline()
    assert sleeping(mark) == []


def test_a_command_that_ends_takes_along_what_it_started(mark: str) -> None:
    reaped = Reaped("sh", "-c", f"sleep {mark} & setsid sleep {mark} & exit 3")
    assert reaped.popen.wait(PATIENCE_SECONDS) == 3
    reaped.close()
    assert sleeping(mark) == []


def test_a_killed_owner_leaves_nothing(mark: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, "sh", "-c", f"sleep {mark} & sleep {mark}"], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        reaper = int(owner.stdout.readline())
        until(lambda: len(sleeping(mark)) == 2)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        until(lambda: not sleeping(mark) and not _runs(reaper))


def test_a_killed_reaper_takes_its_command_along(mark: str) -> None:
    reaped = Reaped("sleep", mark)
    until(lambda: len(sleeping(mark)) == 1)
    reaped.popen.kill()
    until(lambda: not sleeping(mark))
    reaped.close()


def test_a_command_gets_a_moment_to_end_well(tmp_path: Path) -> None:
    word = tmp_path / "word"
    reaped = Reaped(
        "sh", "-c", f"trap 'echo well > {word}; exit 5' TERM; echo up > {word}; while :; do sleep 0.01; done"
    )
    until(lambda: word.exists() and word.read_text() == "up\n")
    assert reaped.close_lifeline() == 5
    assert word.read_text() == "well\n"


def test_a_command_that_ignores_sigterm_is_killed(mark: str) -> None:
    reaped = Reaped("sh", "-c", f"trap '' TERM; sleep {mark} & sleep {mark}; sleep {mark}", program=("-c", SHORT_GRACE))
    until(lambda: len(sleeping(mark)) == 2)
    assert reaped.close_lifeline() == 137
    assert sleeping(mark) == []


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_reaper_leaves_the_command_to_its_owner(mark: str, name: signal.Signals) -> None:
    reaped = Reaped("sleep", mark)
    until(lambda: len(sleeping(mark)) == 1)
    reaper = psutil.Process(reaped.popen.pid)
    until(lambda: bool(_ignored(reaper.pid) & (1 << (name - 1))))
    reaped.popen.send_signal(name)
    assert reaped.popen.poll() is None
    assert sleeping(mark)
    reaped.close_lifeline()


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _ignored(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigIgn:")), 16)
