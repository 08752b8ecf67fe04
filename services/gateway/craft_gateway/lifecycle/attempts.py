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
from craft_gateway.scheduling.allowances import TeamAllowances, out_of_jobs
from craft_gateway.scheduling.fair_share import note_start
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Attempt, Stage

_PROGRESS_SECONDS = 1.0


def claimable(unit: JobTransaction, stage: Stage, teams: TeamAllowances) -> bool:
    """True where a worker may have the stage now: no pause, its team may, and no other stage of its key runs."""
    waits = stage.not_before is not None and stage.not_before > unit.now
    if stage.status is not StageStatus.READY or waits or not unit.job.status.schedulable:
        return False
    if unit.job.status is JobStatus.QUEUED and not _may_begin(unit, teams):
        return False
    lock_key(unit.session, stage.key or "")
    twin = select(Stage.id).where(Stage.key == stage.key, Stage.status == StageStatus.RUNNING)
    return unit.session.exec(twin).first() is None


def _may_begin(unit: JobTransaction, teams: TeamAllowances) -> bool:
    allowance = teams.allowance(unit.job.team)
    if allowance.max_running_jobs is None:
        return True
    # Two claims at the same moment must not both take the last place.
    lock_key(unit.session, f"team {unit.job.team}")
    return not out_of_jobs(unit.session, unit.job.team, allowance)


def hand_out(
    unit: JobTransaction, stage: Stage, claim: Claim, *, rules: CoordinatorSettings, teams: TeamAllowances
) -> ClaimedStage:
    """Start the stage under a new fence. Raises IntegrityError where its key began to run at the same moment."""
    attempt = _attempt(unit, stage, claim, teams)
    note_start(unit.session, attempt)
    unit.session.add(attempt)
    unit.move(
        stage,
        StageStatus.RUNNING,
        fence=stage.fence + 1,
        owner=claim.owner,
        device=claim.device,
        lease_expires_at=unit.now + timedelta(seconds=rules.lease_seconds),
        deadline_at=unit.now + timedelta(seconds=rules.stage_timeout_seconds),
        started_at=unit.now,
        not_before=None,
    )
    unit.start(f"{stage.name} runs")
    unit.emit(EventType.STAGE_STARTED, stage=stage.name, attempt=stage.attempt)
    return ClaimedStage(
        stage_id=stage.id,
        job_id=stage.job_id,
        name=stage.name,
        attempt=stage.attempt,
        fence=stage.fence,
        key=stage.key or "",
        parameters=PARAMETERS.validate_python(stage.parameters),
        inputs=resolved_inputs(stage, done_stages(unit.stages)) or {},
        lease_seconds=rules.lease_seconds,
        beat_seconds=rules.beat_seconds,
        timeout_seconds=rules.stage_timeout_seconds,
        team=stage.team,
        traceparent=unit.job.traceparent,
        waited_seconds=attempt.waited_seconds,
    )


def _attempt(unit: JobTransaction, stage: Stage, claim: Claim, teams: TeamAllowances) -> Attempt:
    free_since = max(filter(None, (stage.ready_at, stage.not_before)), default=unit.now)
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
        waited_seconds=max(0.0, (unit.now - free_since).total_seconds()),
        started_at=unit.now,
    )


def extend(unit: JobTransaction, stage: Stage, renew: Renew, rules: CoordinatorSettings) -> Renewed:
    """A heartbeat: extend the lease, keep progress and log lines."""
    late = past_deadline(unit, stage)
    # Past the deadline the lease is not extended: a worker that will not stop is reaped.
    until = stage.lease_expires_at if late else unit.now + timedelta(seconds=rules.lease_seconds)
    progress = renew.progress.model_dump(mode="json") if renew.progress else stage.progress
    unit.move(stage, StageStatus.RUNNING, lease_expires_at=until, progress=progress)
    unit.log(stage, renew.log_lines)
    schedulable = unit.job.status.schedulable
    if renew.progress is not None and schedulable:
        _report_progress(unit, stage, renew.progress)
    return Renewed(stop=late or not schedulable)


def past_deadline(unit: JobTransaction, stage: Stage) -> bool:
    """True where the attempt has run past its deadline."""
    return stage.deadline_at is not None and unit.now >= stage.deadline_at


def timeout_error(stage: Stage) -> StageError:
    """The error of an attempt that ran past its deadline."""
    return StageError.of(StageTimeout(f"The stage {stage.name} ran past its deadline."))


def succeed(unit: JobTransaction, stage: Stage, manifest: Manifest, ref: ArtifactRef) -> None:
    """Mark the stage as done; `ref` names the bytes that count for the key."""
    _register(unit, manifest, ref)
    unit.session.get_one(Attempt, (stage.id, stage.fence)).work = _work(unit, stage, manifest)
    unit.end_attempt(stage, StageStatus.SUCCEEDED, artifact_key=ref.key, artifact_digest=ref.digest, error=None)
    if not unit.job.status.terminal:
        unit.job.percent = unit.percent()
    unit.emit(
        EventType.STAGE_SUCCEEDED,
        stage=stage.name,
        attempt=stage.attempt,
        seconds=stage.seconds,
        percent=unit.job.percent,
    )


def _work(unit: JobTransaction, stage: Stage, manifest: Manifest) -> dict[str, Any] | None:
    """The amount of work, which the stage's time depends on; None for jobs without an estimate."""
    if unit.job.estimate is None:
        return None
    estimate = Estimate.model_validate(unit.job.estimate)
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
    )
    return work.model_dump(mode="json")


def _report_progress(unit: JobTransaction, stage: Stage, progress: StageProgress) -> None:
    job = unit.job
    job.percent = unit.percent()
    job.status_reason = f"{stage.name}, {progress.done} of {progress.total}" if progress.total else stage.name
    if job.progress_at is not None and (unit.now - job.progress_at).total_seconds() < _PROGRESS_SECONDS:
        return
    job.progress_at = unit.now
    unit.emit(EventType.JOB_PROGRESS, percent=job.percent, stage=stage.name, **progress.model_dump(mode="json"))


def _register(unit: JobTransaction, manifest: Manifest, ref: ArtifactRef) -> None:
    row = unit.session.get(Artifact, manifest.key)
    shown = manifest.model_dump(mode="json")
    if row is None:
        unit.session.add(Artifact(key=manifest.key, digest=manifest.digest, manifest=shown, created_at=unit.now))
        return
    # Nondeterminism stays on record.
    row.other_digests = sorted({*row.other_digests, row.digest, manifest.digest} - {ref.digest})
    if row.digest != ref.digest:
        row.digest, row.manifest = manifest.digest, shown
