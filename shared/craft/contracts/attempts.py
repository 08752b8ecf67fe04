"""How one claim of a stage ended."""

from enum import StrEnum


class AttemptOutcome(StrEnum):
    """RELEASED: its worker gave it back without fault. STOPPED: its job was cancelled, or failed elsewhere."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "released"
    STOPPED = "stopped"
