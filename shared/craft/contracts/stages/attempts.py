"""How one claim of a stage ended, and what its time depended on."""

from enum import StrEnum

from craft.contracts.base import Contract


class AttemptOutcome(StrEnum):
    """RELEASED: its worker gave it back without fault. STOPPED: its job was cancelled, or failed elsewhere."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "released"
    STOPPED = "stopped"


class AttemptWork(Contract):
    """What the seconds of a stage that succeeded depended on. `units` are those of the job's estimate."""

    units: float
    model: str | None = None
    """The base model's digest, for kinds whose time depends on it."""
    parameters: int | None = None
    """Of that model."""
    generated_tokens: int = 0
    trained_tokens: int = 0
