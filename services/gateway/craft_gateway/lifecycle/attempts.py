"""Changes to a stage that a worker's claim and reports make, within one transaction."""

from datetime import timedelta
from typing import Any

from sqlmodel import select

from craft.contracts.documents.estimate import Estimate
from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.attempts import AttemptOutcome, AttemptWork
from craft.contracts.stages.claims import Claim, ClaimedStage, Renew, Renewed, StageProgress
from craft.contracts.stages.parameters import PARAMETERS
from craft.errors import StageTimeout
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.reuse import done_stages, resolved_inputs
from craft_gateway.scheduling.allowances import TeamAllowances, at_running_jobs_quota
from craft_gateway.scheduling.fair_share import note_start
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Attempt, Stage

_PROGRESS_SECONDS = 1.0
_MAX_DONE = 2**31 - 1
"""The largest value of the database's integer."""


def claimable(transaction: JobTransaction, stage: Stage, teams: TeamAllowances) -> bool:
    """True if a worker may have the stage now: no pause, its team may, and no other stage of its key runs."""
    backing_off = stage.not_before is not None and stage.not_before > transaction.now
    if stage.status is not StageStatus.READY or backing_off or not transaction.job.status.schedulable:
        return False
    if transaction.job.status is JobStatus.QUEUED and not _may_begin(transaction, teams):
        return False
    lock_key(transaction.session, stage.key or "")
    twin = select(Stage.id).where(Stage.key == stage.key, Stage.status == StageStatus.RUNNING)
    return transaction.session.exec(twin).first() is None


def _may_begin(transaction: JobTransaction, teams: TeamAllowances) -> bool:
    allowance = teams.allowance(transaction.job.team)
    if allowance.max_running_jobs is None:
        return True
    # Two claims at the same moment must not both take the last place.
    lock_key(transaction.session, f"team {transaction.job.team}")
    return not at_running_jobs_quota(transaction.session, transaction.job.team, allowance)


def hand_out(
    transaction: JobTransaction,
    stage: Stage,
    claim: Claim,
    *,
    coordinator: str,
    settings: CoordinatorSettings,
    teams: TeamAllowances,
) -> ClaimedStage:
    """Start the stage under a new fence. Raises IntegrityError if its key began to run at the same moment."""
    attempt = _attempt(transaction, stage, claim, teams)
    note_start(transaction.session, attempt)
    transaction.session.add(attempt)
    transaction.move(
        stage,
        StageStatus.RUNNING,
        fence=stage.fence + 1,
        owner=claim.owner,
        device=claim.device,
        lease_expires_at=transaction.now + timedelta(seconds=settings.lease_seconds),
        heard_by=coordinator,
        unheard=False,
        deadline_at=transaction.now + timedelta(seconds=settings.stage_timeout_seconds),
        started_at=transaction.now,
        not_before=None,
    )
    transaction.start(f"{stage.name} runs")
    transaction.emit(EventType.STAGE_STARTED, stage=stage.name, attempt=stage.attempt)
    return ClaimedStage(
        stage_id=stage.id,
        job_id=stage.job_id,
        name=stage.name,
        attempt=stage.attempt,
        fence=stage.fence,
        key=stage.key or "",
        parameters=PARAMETERS.validate_python(stage.parameters),
        inputs=resolved_inputs(stage, done_stages(transaction.stages)) or {},
        lease_seconds=settings.lease_seconds,
        beat_seconds=settings.beat_seconds,
        timeout_seconds=settings.stage_timeout_seconds,
        team=stage.team,
        traceparent=transaction.job.traceparent,
        waited_seconds=attempt.waited_seconds,
    )


def _attempt(transaction: JobTransaction, stage: Stage, claim: Claim, teams: TeamAllowances) -> Attempt:
    free_since = max(filter(None, (stage.ready_at, stage.not_before)), default=transaction.now)
    return Attempt(
        stage_id=stage.id,
        fence=stage.fence + 1,
        job_id=stage.job_id,
        team=stage.team,
        queue=stage.queue,
        kind=stage.kind,
        number=stage.attempt,
        owner=claim.owner,
        device=claim.device,
        outcome=AttemptOutcome.RUNNING,
        weight=teams.allowance(stage.team).weight,
        waited_seconds=max(0.0, (transaction.now - free_since).total_seconds()),
        started_at=transaction.now,
    )


def extend(
    transaction: JobTransaction, stage: Stage, renew: Renew, *, coordinator: str, settings: CoordinatorSettings
) -> Renewed:
    """A heartbeat: extend the lease, keep progress and log lines.

    Progress beyond that of every earlier attempt forgives their failures: the stage gets on.
    """
    late = past_deadline(transaction, stage)
    # Past the deadline the lease is not extended: a worker that will not stop is reaped.
    until = stage.lease_expires_at if late else transaction.now + timedelta(seconds=settings.lease_seconds)
    progress = _shown(renew.progress) if renew.progress else stage.progress
    heard = {"heard_by": coordinator, "unheard": False}
    further = _further(stage, renew.progress)
    transaction.move(stage, StageStatus.RUNNING, lease_expires_at=until, progress=progress, **heard, **further)
    transaction.log(stage, renew.log_lines)
    schedulable = transaction.job.status.schedulable
    if renew.progress is not None and schedulable:
        _report_progress(transaction, stage, renew.progress)
    return Renewed(stop=late or not schedulable)


def _shown(progress: StageProgress) -> dict[str, Any]:
    """The progress for the job's readers; that work is saved matters to the running attempt only."""
    return progress.model_dump(mode="json", exclude={"saved"})


def _further(stage: Stage, progress: StageProgress | None) -> dict[str, int]:
    done = min(progress.done, _MAX_DONE) if progress else 0
    return {"furthest_done": done, "lost_attempts": 0, "environment_retries": 0} if done > stage.furthest_done else {}


def past_deadline(transaction: JobTransaction, stage: Stage) -> bool:
    """True if the attempt has run past its deadline."""
    return stage.deadline_at is not None and transaction.now >= stage.deadline_at


def timeout_error(stage: Stage) -> StageError:
    """The error of an attempt that ran past its deadline."""
    return StageError.of(StageTimeout(f"The stage {stage.name} ran past its deadline."))


def succeed(transaction: JobTransaction, stage: Stage, manifest: Manifest, ref: ArtifactRef) -> None:
    """Mark the stage as done; `ref` names the bytes that count for the key."""
    _register(transaction, manifest, ref)
    transaction.session.get_one(Attempt, (stage.id, stage.fence)).work = _work(transaction, stage, manifest)
    transaction.end_attempt(stage, StageStatus.SUCCEEDED, artifact_key=ref.key, artifact_digest=ref.digest, error=None)
    if not transaction.job.status.terminal:
        transaction.job.percent = transaction.percent()
    if transaction.job.status.schedulable:
        # It told this stage's progress. Until the next one runs, the queue knows why the job waits.
        transaction.job.status_reason = None
    transaction.emit(
        EventType.STAGE_SUCCEEDED,
        stage=stage.name,
        attempt=stage.attempt,
        seconds=stage.seconds,
        percent=transaction.job.percent,
    )


def _work(transaction: JobTransaction, stage: Stage, manifest: Manifest) -> dict[str, Any] | None:
    """The amount of work, which the stage's time depends on; None for jobs without an estimate."""
    if transaction.job.estimate is None:
        return None
    estimate = Estimate.model_validate(transaction.job.estimate)
    units = next((each.units for each in estimate.stage_estimates if each.stage == stage.name), None)
    if units is None:
        return None
    cost, model = manifest.result.cost, stage.parameters.get("model")
    work = AttemptWork(
        units=units,
        model=model.get("digest") if isinstance(model, dict) else None,
        parameters=estimate.memory.parameters if estimate.memory else None,
        generated_tokens=cost.generated_tokens,
        trained_tokens=cost.trained_tokens,
        peak_memory_bytes=cost.peak_memory_bytes,
    )
    return work.model_dump(mode="json")


def _report_progress(transaction: JobTransaction, stage: Stage, progress: StageProgress) -> None:
    job = transaction.job
    job.percent = transaction.percent()
    job.status_reason = f"{stage.name}, {progress.done} of {progress.total}" if progress.total else stage.name
    if job.progress_at is not None and (transaction.now - job.progress_at).total_seconds() < _PROGRESS_SECONDS:
        return
    job.progress_at = transaction.now
    transaction.emit(EventType.JOB_PROGRESS, percent=job.percent, stage=stage.name, **_shown(progress))


def _register(transaction: JobTransaction, manifest: Manifest, ref: ArtifactRef) -> None:
    row = transaction.session.get(Artifact, manifest.key)
    shown = manifest.model_dump(mode="json")
    if row is None:
        transaction.session.add(
            Artifact(
                key=manifest.key,
                digest=manifest.digest,
                kind=manifest.kind,
                manifest=shown,
                created_at=transaction.now,
            )
        )
        return
    # Nondeterminism stays on record.
    row.other_digests = sorted({*row.other_digests, row.digest, manifest.digest} - {ref.digest})
    if row.digest != ref.digest:
        row.digest, row.manifest = manifest.digest, shown
