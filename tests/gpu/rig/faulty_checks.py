"""Checks that fail in every way, for the tests of the rig. `GPU_CHECK_FAULT` names the last one's fault."""

import os
import signal
import time
from collections.abc import Sequence

from tests.gpu.rig.checks import Bench, Check, Measured


def checks(bench: Bench) -> Sequence[Check]:
    """A raising check, one that holds, and the fault."""
    return (
        Check("raises", "nothing raises", _raise),
        Check("holds", "1 <= 2", lambda: Measured("1", holds=True)),
        Check("fault", "ends well", _fault),
    )


def _raise() -> Measured:
    raise RuntimeError("the device is on fire")


def _fault() -> Measured:
    fault = os.environ["GPU_CHECK_FAULT"]
    if fault == "hang":
        time.sleep(600)
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return Measured(fault, holds=None)
