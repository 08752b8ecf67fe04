"""Consequences of a stage's end: later stages become ready or are found done, or the job ends."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import JobError, StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.claims import place_of
from craft.errors import DeviceFailed, Fault
from craft.infra.backoff import exponential_backoff
from craft_gateway.lifecycle.job_transaction import JobTransaction, storable
from craft_gateway.lifecycle.reuse import done_stages, key_of, resolved_inputs
from craft_gateway.scheduling.device_failures import failures_of, is_charged, pause_seconds
from craft_gateway.store.database import lock_keys
from craft_gateway.store.tables import Artifact, Stage

RETRY_SECONDS: Mapping[str, float] = {
    "disk_full": 20.0,
    "unavailable": 5.0,
    "device_busy": 5.0,
    "gpu_oom": 5.0,
    "host_oom": 5.0,
    "deployment_changed": 20.0,
}
"""Pause before the second attempt by error code (1 s for others); it doubles with each attempt."""
_MAX_PAUSE_SECONDS = 300.0
_ENVIRONMENT_ERRORS = {"disk_full", "device_busy", "unavailable"}
"""A stage waits for these as long as it takes: no attempt is used up. An outage is `unavailable`."""


def advance(transaction: JobTransaction, cached: Mapping[str, ArtifactRef]) -> None:
    """Let every waiting stage whose inputs exist become ready, or succeed at once where `cached` has its key.

    Ends the job where nothing is left to do. Changes nothing in a job that is being cancelled or has ended. The keys of
    `cached` are locked.
    """
    if not transaction.job.status.schedulable:
        return
    done = done_stages(transaction.stages)
    for stage in transaction.stages:
        if not stage.status.waits:
            continue
        inputs = resolved_inputs(stage, done)
        if inputs is None:
            continue
        key = key_of(stage, inputs)
        if key in cached and not stage.recompute and _still_exists(transaction, cached[key]):
            _reuse(transaction, stage, cached[key])
            done[stage.name] = cached[key]
        elif stage.status is StageStatus.PENDING:
            transaction.move(
                stage,
                StageStatus.READY,
                key=key,
                ready_at=transaction.now,
                dispatch_at=transaction.now,
                not_before=None,
            )
            transaction.dispatch(stage)
    transaction.job.percent = transaction.percent()
    end_if_nothing_runs(transaction)


def _still_exists(transaction: JobTransaction, ref: ArtifactRef) -> bool:
    """True if the artifact was not collected since it was looked for."""
    row = transaction.session.get(Artifact, ref.key, populate_existing=True)
    return row is not None and row.ref == ref


def _reuse(transaction: JobTransaction, stage: Stage, ref: ArtifactRef) -> None:
    transaction.end_attempt(
        stage,
        StageStatus.SUCCEEDED,
        key=ref.key,
        artifact_key=ref.key,
        artifact_digest=ref.digest,
        reused=True,
        started_at=transaction.now,
    )
    transaction.job.status_reason = f"{stage.name} was done before"
    transaction.emit(EventType.STAGE_REUSED, stage=stage.name, attempt=stage.attempt, percent=transaction.percent())


def requeue(transaction: JobTransaction, stage: Stage) -> None:
    """The worker stops without a failure: the stage is ready again, or ends with its job."""
    if ended_with_job(transaction, stage):
        return
    _again(transaction, stage, due=transaction.now)
    if transaction.job.status.schedulable:
        transaction.job.status_reason = f"{stage.name} waits for another worker"
    transaction.emit(EventType.STAGE_RETRIED, stage=stage.name, attempt=stage.attempt, retry_seconds=0.0)
    end_if_nothing_runs(transaction)


def retry_or_fail(
    transaction: JobTransaction, stage: Stage, error: StageError, *, max_attempts: int, backoff: bool = True
) -> None:
    """The attempt failed: try again, after a back-off, if that may help and attempts are left; else fail the job.

    `max_attempts` counts attempts in a row without progress in between (see `attempts.extend`), and only those in which
    the worker or the work itself failed. After a failure of its device the stage is ready for other places at once.
    """
    if ended_with_job(transaction, stage):
        return
    of_device = error.code == DeviceFailed.code
    not_counted = error.code in _ENVIRONMENT_ERRORS or (
        of_device and not is_charged(transaction.session, stage, max_attempts=max_attempts)
    )
    failed = stage.lost_attempts + 1
    if not (error.retryable and error.fault is Fault.SYSTEM and (not_counted or failed < max_attempts)):
        fail_job(transaction, stage, error)
        return
    shown = error.model_dump(mode="json")
    failures = stage.environment_retries + 1 if not_counted else failed
    seconds = _pause_seconds(error, failures) if backoff and not of_device else 0.0
    counted = (
        {"environment_retries": stage.environment_retries + 1}
        if not_counted
        else {"attempt": stage.attempt + 1, "lost_attempts": failed, "environment_retries": 0}
    )
    place = place_of(stage.owner or "")
    _again(transaction, stage, due=transaction.now + timedelta(seconds=seconds), error=shown, **counted)
    if of_device and stage.status is StageStatus.READY:
        _offer_again(transaction, stage, place)
    if transaction.job.status.schedulable:
        to = f"waits for a worker with a working device, not at {place}" if of_device else "will be tried again"
        transaction.job.status_reason = storable(f"{stage.name} {to}: {error.message}")
    transaction.emit(
        EventType.STAGE_RETRIED, stage=stage.name, attempt=stage.attempt, error=shown, retry_seconds=seconds
    )
    end_if_nothing_runs(transaction)


def _pause_seconds(error: StageError, failures: int) -> float:
    return exponential_backoff(failures, first=RETRY_SECONDS.get(error.code, 1.0), longest=_MAX_PAUSE_SECONDS)


def _offer_again(transaction: JobTransaction, stage: Stage, place: str) -> None:
    """Send another message when the place's pause is over: there may be no other place."""
    transaction.session.flush()  # the attempt that has just ended counts
    failures = failures_of(transaction.session, stage)[place]
    transaction.dispatch(stage, due=transaction.now + timedelta(seconds=pause_seconds(len(failures.times))))


def cancel(transaction: JobTransaction) -> None:
    """First phase: nothing new starts. Second phase: `requeue`, `retry_or_fail` or a completion of what still runs."""
    transaction.job.status = JobStatus.CANCELLING
    transaction.job.status_reason = "cancel requested"
    transaction.emit(EventType.JOB_CANCELLING)
    _drop_waiting(transaction, StageStatus.CANCELLED)
    end_if_nothing_runs(transaction)


def pause(transaction: JobTransaction) -> None:
    """First phase: nothing new starts, for what was ready is pending again. Second phase as for `cancel`."""
    transaction.job.status = JobStatus.PAUSING
    transaction.job.status_reason = "pause requested"
    transaction.emit(EventType.JOB_PAUSING)
    for stage in transaction.stages:
        if stage.status is StageStatus.READY:
            transaction.move(stage, StageStatus.PENDING)
    end_if_nothing_runs(transaction)


def resume(transaction: JobTransaction, cached: Mapping[str, ArtifactRef]) -> None:
    """The job waits for workers again; `cached` as in `advance`, not locked yet."""
    lock_keys(transaction.session, cached)
    transaction.job.status = JobStatus.QUEUED
    transaction.job.status_reason = "resumed"
    transaction.emit(EventType.JOB_RESUMED)
    if any(stage.status is StageStatus.RUNNING for stage in transaction.stages):
        transaction.start("resumed")
    advance(transaction, cached)


def end_if_nothing_runs(transaction: JobTransaction) -> None:
    """Second phase of a cancel or a pause, once no worker has a stage of the job; and its end where all is done."""
    status, statuses = transaction.job.status, {stage.status for stage in transaction.stages}
    if status is JobStatus.CANCELLING:
        if StageStatus.RUNNING not in statuses:
            transaction.end(JobStatus.CANCELLED, reason="cancelled")
    elif (status.schedulable or status is JobStatus.PAUSING) and statuses == {StageStatus.SUCCEEDED}:
        transaction.start("every stage was done before")
        transaction.end(JobStatus.SUCCEEDED, reason="every stage succeeded")
    elif status is JobStatus.PAUSING and StageStatus.RUNNING not in statuses:
        transaction.job.status = JobStatus.PAUSED
        transaction.job.status_reason = "paused"
        transaction.emit(EventType.JOB_PAUSED)


def _again(transaction: JobTransaction, stage: Stage, *, due: datetime, **values: Any) -> None:
    """The attempt is over and the stage is to be done again: ready from `due` on.

    It is pending while its job pauses, and while a damaged input of it is made again.
    """
    inputs = resolved_inputs(stage, done_stages(transaction.stages))
    if inputs is None or not transaction.job.status.schedulable:
        transaction.end_attempt(stage, StageStatus.PENDING, **values)
        return
    # An input that was made again meanwhile may have other bytes.
    key = key_of(stage, inputs)
    transaction.end_attempt(
        stage, StageStatus.READY, key=key, not_before=due, dispatch_at=due, ready_at=transaction.now, **values
    )
    transaction.dispatch(stage, due=due)


def awaits_input(transaction: JobTransaction, stage: Stage) -> bool:
    """True while a stage that makes an input of this one is not done, or is done again."""
    return resolved_inputs(stage, done_stages(transaction.stages)) is None


def ended_with_job(transaction: JobTransaction, stage: Stage) -> bool:
    """End the attempt together with a job that is cancelled or has ended; False if the job goes on."""
    if transaction.job.status is JobStatus.CANCELLING:
        transaction.end_attempt(stage, StageStatus.CANCELLED)
        end_if_nothing_runs(transaction)
        return True
    if transaction.job.status.terminal:
        transaction.end_attempt(stage, StageStatus.SKIPPED)
        return True
    return False


def fail_job(transaction: JobTransaction, stage: Stage, error: StageError) -> None:
    """Fail the stage, and the job with it."""
    shown = error.model_dump(mode="json")
    transaction.end_attempt(stage, StageStatus.FAILED, error=shown)
    transaction.emit(EventType.STAGE_FAILED, stage=stage.name, attempt=stage.attempt, error=shown)
    # Running stages hear of it at their next heartbeat; the job's end does not wait for them.
    _drop_waiting(transaction, StageStatus.SKIPPED)
    failure = JobError(stage=stage.name, attempt=stage.attempt, **dict(error))
    transaction.end(
        JobStatus.FAILED, reason=f"{stage.name} failed: {error.message}", error=failure.model_dump(mode="json")
    )


def _drop_waiting(transaction: JobTransaction, to: StageStatus) -> None:
    waiting: Iterable[Stage] = [stage for stage in transaction.stages if stage.status.waits]
    for stage in waiting:
        transaction.end_attempt(stage, to)
