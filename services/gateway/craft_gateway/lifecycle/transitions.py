"""What follows from a stage's end: later stages become ready or are found done, or the job ends."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import JobError, StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import Fault
from craft.infra.backoff import exponential_backoff
from craft_gateway.lifecycle.job_transaction import JobTransaction, storable
from craft_gateway.lifecycle.reuse import done_stages, key_of, resolved_inputs
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Stage

RETRY_SECONDS: Mapping[str, float] = {
    "disk_full": 20.0,
    "unavailable": 5.0,
    "device_busy": 5.0,
    "gpu_oom": 5.0,
    "host_oom": 5.0,
}
"""Pause before the second attempt by error code (1 s for others); it doubles with each attempt."""
_LONGEST_PAUSE_SECONDS = 300.0
_SURROUNDINGS = {"disk_full", "device_busy"}
"""What a stage waits for as long as it takes: no attempt is used up."""


def advance(unit: JobTransaction, found: Mapping[str, ArtifactRef]) -> None:
    """Let every waiting stage whose inputs exist become ready, or succeed at once where `found` has its key.

    Ends the job where nothing is left to do. Changes nothing in a job that is being cancelled or has ended. The keys of
    `found` are locked.
    """
    if not unit.job.status.schedulable:
        return
    done = done_stages(unit.stages)
    for stage in unit.stages:
        if not stage.status.waits:
            continue
        inputs = resolved_inputs(stage, done)
        if inputs is None:
            continue
        key = key_of(stage, inputs)
        if key in found and not stage.recompute and _still_counts(unit, found[key]):
            _take_over(unit, stage, found[key])
            done[stage.name] = found[key]
        elif stage.status is StageStatus.PENDING:
            unit.move(stage, StageStatus.READY, key=key, ready_at=unit.now, dispatched_at=unit.now, not_before=None)
            unit.hint(stage)
    unit.job.percent = unit.percent()
    end_if_idle(unit)


def lock_keys(session: Session, keys: Iterable[str]) -> None:
    """Keep sweeps and claims off these keys; sorted, so two who want the same never wait for one another."""
    for key in sorted(keys):
        lock_key(session, key)


def _still_counts(unit: JobTransaction, ref: ArtifactRef) -> bool:
    """Whether the artifact was not swept since it was looked for."""
    row = unit.session.get(Artifact, ref.key, populate_existing=True)
    return row is not None and row.ref == ref


def _take_over(unit: JobTransaction, stage: Stage, ref: ArtifactRef) -> None:
    unit.end_attempt(
        stage,
        StageStatus.SUCCEEDED,
        key=ref.key,
        artifact_key=ref.key,
        artifact_digest=ref.digest,
        reused=True,
        started_at=unit.now,
    )
    unit.job.status_reason = f"{stage.name} was done before"
    unit.emit(EventType.STAGE_REUSED, stage=stage.name, attempt=stage.attempt, percent=unit.percent())


def give_back(unit: JobTransaction, stage: Stage) -> None:
    """A worker no longer does the stage, through no fault: ready again, or ended with its job."""
    if _ended_with_job(unit, stage):
        return
    _again(unit, stage, due=unit.now)
    if unit.job.status.schedulable:
        unit.job.status_reason = f"{stage.name} waits for another worker"
    unit.emit(EventType.STAGE_RETRIED, stage=stage.name, attempt=stage.attempt, retry_seconds=0.0)
    end_if_idle(unit)


def lose(unit: JobTransaction, stage: Stage, error: StageError, *, most_attempts: int, pause: bool = True) -> None:
    """An attempt ended badly: try again where that may help and attempts are left, else fail the job."""
    if _ended_with_job(unit, stage):
        return
    blameless = error.code in _SURROUNDINGS
    if not (error.retryable and error.fault is Fault.SYSTEM and (blameless or stage.attempt < most_attempts)):
        _fail_job(unit, stage, error)
        return
    shown = error.model_dump(mode="json")
    failures = stage.waits + 1 if blameless else stage.attempt
    first = RETRY_SECONDS.get(error.code, 1.0)
    seconds = exponential_backoff(failures, first=first, longest=_LONGEST_PAUSE_SECONDS) if pause else 0.0
    counted = {"waits": stage.waits + 1} if blameless else {"attempt": stage.attempt + 1, "waits": 0}
    _again(unit, stage, due=unit.now + timedelta(seconds=seconds), error=shown, **counted)
    if unit.job.status.schedulable:
        unit.job.status_reason = storable(f"{stage.name} will be tried again: {error.message}")
    unit.emit(EventType.STAGE_RETRIED, stage=stage.name, attempt=stage.attempt, error=shown, retry_seconds=seconds)
    end_if_idle(unit)


def cancel(unit: JobTransaction) -> None:
    """First phase: nothing new starts. Second phase: `give_back`, `lose` or a completion of what still runs."""
    unit.job.status = JobStatus.CANCELLING
    unit.job.status_reason = "cancel requested"
    unit.emit(EventType.JOB_CANCELLING)
    _drop_waiting(unit, StageStatus.CANCELLED)
    end_if_idle(unit)


def pause(unit: JobTransaction) -> None:
    """First phase: nothing new starts, for what was ready is pending again. Second phase as for `cancel`."""
    unit.job.status = JobStatus.PAUSING
    unit.job.status_reason = "pause requested"
    unit.emit(EventType.JOB_PAUSING)
    for stage in unit.stages:
        if stage.status is StageStatus.READY:
            unit.move(stage, StageStatus.PENDING)
    end_if_idle(unit)


def resume(unit: JobTransaction, found: Mapping[str, ArtifactRef]) -> None:
    """The job waits for workers again; `found` as in `advance`, not locked yet."""
    lock_keys(unit.session, found)
    unit.job.status = JobStatus.QUEUED
    unit.job.status_reason = "resumed"
    unit.emit(EventType.JOB_RESUMED)
    if any(stage.status is StageStatus.RUNNING for stage in unit.stages):
        unit.start("resumed")
    advance(unit, found)


def end_if_idle(unit: JobTransaction) -> None:
    """Second phase of a cancel or a pause, once no worker has a stage of the job; and its end where all is done."""
    status, states = unit.job.status, {stage.status for stage in unit.stages}
    if status is JobStatus.CANCELLING:
        if StageStatus.RUNNING not in states:
            unit.end(JobStatus.CANCELLED, reason="cancelled")
    elif (status.schedulable or status is JobStatus.PAUSING) and states == {StageStatus.SUCCEEDED}:
        unit.start("every stage was done before")
        unit.end(JobStatus.SUCCEEDED, reason="every stage succeeded")
    elif status is JobStatus.PAUSING and StageStatus.RUNNING not in states:
        unit.job.status = JobStatus.PAUSED
        unit.job.status_reason = "paused"
        unit.emit(EventType.JOB_PAUSED)


def _again(unit: JobTransaction, stage: Stage, *, due: datetime, **values: Any) -> None:
    """The attempt is over and the stage is to be done: ready from `due` on, or pending while its job pauses."""
    if not unit.job.status.schedulable:
        unit.end_attempt(stage, StageStatus.PENDING, **values)
        return
    unit.end_attempt(stage, StageStatus.READY, not_before=due, dispatched_at=due, ready_at=unit.now, **values)
    unit.hint(stage, due=due)


def _ended_with_job(unit: JobTransaction, stage: Stage) -> bool:
    if unit.job.status is JobStatus.CANCELLING:
        unit.end_attempt(stage, StageStatus.CANCELLED)
        end_if_idle(unit)
        return True
    if unit.job.status.terminal:
        unit.end_attempt(stage, StageStatus.SKIPPED)
        return True
    return False


def _fail_job(unit: JobTransaction, stage: Stage, error: StageError) -> None:
    shown = error.model_dump(mode="json")
    unit.end_attempt(stage, StageStatus.FAILED, error=shown)
    unit.emit(EventType.STAGE_FAILED, stage=stage.name, attempt=stage.attempt, error=shown)
    # Stages that still run are told to stop at their next beat; the job's end does not wait for them.
    _drop_waiting(unit, StageStatus.SKIPPED)
    failure = JobError(stage=stage.name, attempt=stage.attempt, **dict(error))
    unit.end(JobStatus.FAILED, reason=f"{stage.name} failed: {error.message}", error=failure.model_dump(mode="json"))


def _drop_waiting(unit: JobTransaction, to: StageStatus) -> None:
    waiting: Iterable[Stage] = [stage for stage in unit.stages if stage.status.waits]
    for stage in waiting:
        unit.end_attempt(stage, to)
