"""Ends processes with their parents, by Linux's prctl. Other systems have no such call, and it is left out there."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Loaded here and not on demand: a forked child, before its exec, should load no library.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int, *, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send `death_signal` to this process when the thread that started it ends.

    `parent` is the id of the parent process. Call it in the child: after a fork, in a `preexec_fn` or in its program.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    # The parent may have died before the call.
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of each descendant whose own parent ends, so that it can wait for them."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
