"""Runs a command that must not outlive the process that started it:
`python -m craft_inference.model_server.process_reaper LIFELINE_FD COMMAND…`.

vLLM is several processes, and each of them occupies accelerator memory. The reaper ends all of them when the other end
of the lifeline closes (its owner died, however that happened) or when the command ends. It exits with the command's
code only when the last of them is gone: from then on the memory is free.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from craft.infra.process.parent_death import adopt_orphans, die_with_parent

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0


def main(arguments: list[str], *, grace_seconds: float = _GRACE_SECONDS) -> int:
    """Run the command and return its exit code, or 128 + the signal's number where a signal ended it."""
    lifeline, command = int(arguments[0]), arguments[1:]
    adopt_orphans()  # the command may start processes and leave them behind
    reaper = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        die_with_parent(reaper)  # a killed reaper must not leave the command running
        os.setpgid(0, 0)
        os.execvp(command[0], command)  # noqa: S606 - the command comes from our own settings
    with suppress(OSError):
        os.setpgid(child, child)  # here and in the child: either of the two may run first
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)  # closing the lifeline is how to end this
    code = _watch(child, lifeline, grace_seconds)
    _end(child)
    return code


def _watch(child: int, lifeline: int, grace_seconds: float) -> int:
    """Wait until the command ends, and return its exit code.

    When the lifeline closes, the command gets SIGTERM, and SIGKILL after the grace period.
    """
    deadline: float | None = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if deadline is None:
            readable, _, _ = select.select([lifeline], [], [], _POLL_SECONDS)
            if readable:
                os.kill(child, signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
        else:
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


def _end(group: int) -> None:
    """Kill every process of the group and every one that left it, and wait until all of them have ended."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                for pid in _children():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_POLL_SECONDS)


def _children() -> list[int]:
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
