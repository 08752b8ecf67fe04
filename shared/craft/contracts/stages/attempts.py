"""The outcome of one claim of a stage, and the amounts that determine its time."""

from enum import StrEnum

from craft.contracts.base import Contract


class AttemptOutcome(StrEnum):
    """RELEASED: the worker gave the stage back without fault. STOPPED: its job was cancelled, or failed elsewhere."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "released"
    STOPPED = "stopped"


class AttemptWork(Contract):
    """The amounts that determine a successful stage's seconds. `units` are those of the job's estimate."""

    units: float
    model: str | None = None
    """The base model's digest, for kinds whose time depends on it."""
    parameters: int | None = None
    """The number of that model's parameters."""
    generated_tokens: int = 0
    trained_tokens: int = 0
    peak_memory_bytes: int = 0
    """0 where it was not measured."""
