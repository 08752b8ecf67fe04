"""Calls between a worker and the coordinator: claim, renew, complete, fail, release."""

from pydantic import Field

from craft.contracts.base import Contract, Digest
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.kinds import Service
from craft.contracts.stages.parameters import StageParameters


class Claim(Contract):
    """POST /internal/stages/{id}/claim: who wants to do the stage. `owner` names one process, not one host."""

    owner: str = Field(min_length=1, max_length=200)
    service: Service
    device: str | None = Field(
        None, max_length=100, description="The processor that the stage will hold alone, where workers take turns."
    )


class ClaimedStage(Contract):
    """The stage is the caller's until the lease runs out; every later call carries the fence."""

    stage_id: str
    job_id: str
    name: str
    attempt: int
    fence: int
    key: Digest
    parameters: StageParameters
    inputs: dict[str, ArtifactRef]
    lease_seconds: float
    beat_seconds: float
    timeout_seconds: float
    team: str = "default"
    waited_seconds: float = Field(0.0, description="How long the stage had been ready.")
    traceparent: str | None = Field(None, description="The W3C trace context of the request that made the job.")


class StageProgress(Contract):
    """How far a stage is; `metrics` holds the latest values, such as loss."""

    done: int = Field(0, ge=0)
    total: int = Field(0, ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)


class Renew(Contract):
    """POST /internal/stages/{id}/renew: still at it. Answers 409 lease_lost where the fence is old."""

    fence: int
    progress: StageProgress | None = None
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Renewed(Contract):
    """`stop` asks the worker to end the child and report `released`."""

    stop: bool = False


class Complete(Contract):
    """POST /internal/stages/{id}/complete: the artifact is published and whole."""

    fence: int
    manifest: Manifest
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Fail(Contract):
    """POST /internal/stages/{id}/fail: the attempt failed."""

    fence: int
    error: StageError
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Release(Contract):
    """POST /internal/stages/{id}/release: not done and no fault: the worker shuts down, or was asked to stop."""

    fence: int
    log_lines: list[str] = Field(default_factory=list, max_length=1000)
