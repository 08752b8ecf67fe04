"""Runs a command that may not outlive whoever started it:
`python -m craft_inference.model_server.process_reaper LIFELINE_FD COMMAND…`.

vLLM is several processes, and each of them holds accelerator memory. This one leads their group, ends all of them when
the other end of the lifeline closes (its owner died, however that happened) or when the command ends, and exits with
the command's code only when the last of them is gone: from then on the memory is free.
"""

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 10.0


def main(arguments: list[str], *, grace_seconds: float = _GRACE_SECONDS) -> int:
    """Run the command; returns its exit code, 128 + the signal's number where a signal ended it."""
    lifeline, command = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc:
        # What the command starts and leaves behind becomes our child, so that we can see it end.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        if libc:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # who kills us must not be left with it
        os.setpgid(0, 0)
        os.execvp(command[0], command)  # noqa: S606 - the command comes from our own settings
    with suppress(OSError):
        os.setpgid(child, child)  # whichever of the two comes first
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)  # closing the lifeline is how to end this
    code = _watch(child, lifeline, grace_seconds)
    _end(child)
    return code


def _watch(child: int, lifeline: int, grace_seconds: float) -> int:
    """Until the command ends or the lifeline closes; a closed lifeline first gives the command a moment to end well."""
    deadline: float | None = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if deadline is None:
            readable, _, _ = select.select([lifeline], [], [], _LOOK_SECONDS)
            if readable:
                os.kill(child, signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
        else:
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)


def _end(group: int) -> None:
    """Kill what is left of the group, and whatever left it, and wait for all of it."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                for pid in _children():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_LOOK_SECONDS)


def _children() -> list[int]:
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
