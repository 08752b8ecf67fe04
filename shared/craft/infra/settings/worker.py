"""Settings of a worker, the parent of the process in which stages run."""

from pathlib import Path

from pydantic import BaseModel, Field


class WorkerSettings(BaseModel):
    """A worker and its child process."""

    give_up_seconds: float = Field(
        60.0,
        description="A worker that cannot renew its lease for this long, or for two thirds of the lease if that is "
        "less, kills its child.",
    )
    grace_seconds: float = Field(
        5.0, description="Time from SIGTERM to the worker's end; a stage gets half of it to save."
    )
    stop_seconds: float = Field(2.5, description="Time that a stage gets to save where its job is cancelled or paused.")
    memory_bytes: int | None = Field(
        None,
        ge=2**28,
        description="Most memory of a stage's process; by default 80 % of what the machine or the container has. A "
        "stage that takes more fails with host_oom, and nothing else on the machine does.",
    )
    device_lock: Path | None = Field(
        None, description="Lock file of a shared device: workers with the same file compute one at a time."
    )
    warm_seconds: float = Field(300.0, description="How long an idle child keeps its model loaded.")
    warm_on_device: bool = Field(
        default=False,
        description="An idle child keeps its model on a GPU that others use too: only where all their models fit "
        "there together.",
    )
