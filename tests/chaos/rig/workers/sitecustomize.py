"""Read by Python at the start of a process whose clock is bent: libfaketime 0.9.10, told to leave the monotonic clock
alone, breaks the system call by which `time.sleep` waits.
"""

import os
import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


if "FAKETIME" in os.environ:
    vars(time)["sleep"] = _sleep
