"""The most memory that this process has had since a moment."""

import contextlib
import resource
import sys
from pathlib import Path

_PROCESS = Path("/proc/self")
_FORGET_PEAK = "5"
"""Linux: writing it to clear_refs sets the peak to the present size."""


def forget_peak() -> None:
    """Measure from now on. Where the system cannot, the peak is that of the process's whole life."""
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text(_FORGET_PEAK)


def peak_bytes() -> int:
    """The peak of the resident memory in bytes since `forget_peak`."""
    with contextlib.suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1)
