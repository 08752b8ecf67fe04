"""Settings of a worker: the parent of the processes that stages run in."""

from pathlib import Path

from pydantic import BaseModel, Field


class WorkerSettings(BaseModel):
    """The supervising parent of a stage's child process."""

    give_up_seconds: float = Field(60.0, description="A worker that cannot renew for this long kills its child.")
    grace_seconds: float = Field(5.0, description="From SIGTERM to the worker's end; a stage gets half of it to save.")
    stop_seconds: float = Field(2.5, description="What a stage gets to save where its job is cancelled or paused.")
    memory_bytes: int | None = None
    device_lock: Path | None = Field(
        None, description="Workers that are given the same file compute one at a time: one processor for all of them."
    )
    warm_seconds: float = Field(300.0, description="How long an idle child keeps its model loaded.")
