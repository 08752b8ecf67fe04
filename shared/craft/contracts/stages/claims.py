"""Calls between a worker and the coordinator: claim, renew, complete, fail, release."""

import re

from pydantic import Field

from craft.contracts.base import Contract, Digest
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.kinds import Service
from craft.contracts.stages.parameters import StageParameters

ANSWER_SECONDS = 5.0
"""A worker waits this long for the answer to a call; then it makes the call again."""
_PROCESS = re.compile(r"-\d+-wrk_\w+$", re.ASCII)


def owner_at(place: str, process_id: int, worker_id: str) -> str:
    """The name of a worker process at a place: a machine, or one device of it. `worker_id` is a new id, `wrk_…`."""
    return f"{place}-{process_id}-{worker_id}"


def place_of(owner: str) -> str:
    """The place of a worker process. An owner that `owner_at` did not make is a place of its own."""
    return _PROCESS.sub("", owner)


class Claim(Contract):
    """POST /internal/stages/{id}/claim: claim a stage. `owner` names one process, not one host."""

    owner: str = Field(min_length=1, max_length=200)
    service: Service
    device: str | None = Field(
        None, max_length=100, description="The device that the stage locks, where workers share one."
    )


class ClaimedStage(Contract):
    """A claimed stage. It is the caller's until the lease expires; every later call carries the fence."""

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
    waited_seconds: float = Field(0.0, description="Time for which the stage was ready.")
    traceparent: str | None = Field(None, description="The W3C trace context of the request that created the job.")


class StageProgress(Contract):
    """The progress of a stage; `metrics` has the latest values, such as loss."""

    done: int = Field(0, ge=0)
    total: int = Field(0, ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)
    saved: bool = Field(default=False, description="This attempt has saved work that a later one need not do again.")


class Renew(Contract):
    """POST /internal/stages/{id}/renew: renew the lease. Answers 409 lease_lost where the fence is old."""

    fence: int
    progress: StageProgress | None = None
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Renewed(Contract):
    """The lease is renewed. `stop` asks the worker to end the child and release the stage."""

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
    """POST /internal/stages/{id}/release: give the stage back without fault, at a shutdown or a requested stop."""

    fence: int
    log_lines: list[str] = Field(default_factory=list, max_length=1000)
