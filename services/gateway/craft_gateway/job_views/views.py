"""From the tables' rows to what the API shows: pure functions. The only clock is the moment passed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from craft.contracts.documents.estimate import Estimate
from craft.contracts.events import StageStatus
from craft.contracts.problems import JobError, StageError
from craft.contracts.public.jobs import (
    AdapterView,
    ArtifactView,
    AttemptView,
    DeviceView,
    EventView,
    JobLinks,
    JobView,
    LogLine,
    Progress,
    ReportView,
    ResolvedSpec,
    StageView,
)
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.kinds import FACTS
from craft.contracts.stages.names import REPORT, package_stage
from craft.contracts.stages.rows import ADAPTER_ARCHIVE
from craft_gateway.estimates.bounds import upper_bounds
from craft_gateway.estimates.outcome import estimate_outcome
from craft_gateway.http.responses import ROOT
from craft_gateway.job_views.queue_state import queue_state, queued_job
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.scheduling.queue import DeviceOwner, QueuePosition
from craft_gateway.store.tables import Attempt, Event, Job, Stage, StageLog

_MIN_PERCENT_FOR_A_FORECAST = 2.0


@dataclass(frozen=True, slots=True)
class JobRows:
    """All that a job's view is made of. `questions` counts the dataset's rows."""

    job: Job
    resolved: ResolvedJob
    stages: Sequence[Stage]
    manifests: Mapping[ArtifactRef, Manifest]
    questions: int
    evaluation_questions: int
    position: QueuePosition | None
    """The best of its ready stages."""
    device_owner: DeviceOwner | None = None
    """A stage of any job that owns a device."""
    expires: Mapping[str, datetime | None] = field(default_factory=dict)
    """By key, when what an ended job made expires."""


def job_view(rows: JobRows, *, now: datetime) -> JobView:
    """A job as the API shows it. Running times count up to the last sign of life, so an idle job's view stays equal."""
    job, stages = rows.job, rows.stages
    state = queue_state(queued_job(job, stages), position=rows.position, device_owner=rows.device_owner, now=now)
    return JobView(
        id=job.id,
        name=job.name,
        status=job.status,
        status_reason=state.status_reason,
        progress=_job_progress(job, stages),
        queue=state.queue,
        stages=[stage_view(stage, until=job.updated_at) for stage in stages],
        resolved=resolved_view(rows.resolved, questions=rows.questions),
        estimate=_estimate(rows),
        estimate_outcome=estimate_outcome(job, stages) if job.status.terminal else None,
        error=None if job.error is None else JobError.model_validate(job.error),
        findings=rows.resolved.findings,
        adapters=_adapters(rows),
        report=_report(rows),
        team=job.team,
        priority=job.priority,
        retry_of=job.retry_of,
        pinned=job.pinned,
        labels=job.labels,
        created_at=job.created_at,
        started_at=job.started_at,
        estimated_finish_at=_forecast(job),
        finished_at=job.finished_at,
        links=_links(job.id),
    )


def resolved_view(resolved: ResolvedJob, *, questions: int) -> ResolvedSpec:
    """The specification as accepted, with what its names stood for."""
    return ResolvedSpec.model_validate(
        {
            **resolved.spec.model_dump(),
            "model": resolved.model,
            "engine": resolved.engine,
            "embedder": resolved.embedder,
            "questions": questions,
        }
    )


def stage_view(stage: Stage, *, until: datetime) -> StageView:
    """One stage; a running one has run `until` then."""
    seconds = stage.seconds
    if stage.status is StageStatus.RUNNING and stage.started_at is not None:
        seconds = max(0.0, (until - stage.started_at).total_seconds())
    return StageView(
        name=stage.name,
        kind=stage.kind,
        service=stage.queue,
        status=stage.status,
        attempt=stage.attempt,
        reused=stage.reused,
        seconds=seconds,
        depends_on=stage.depends_on,
        progress=_stage_progress(stage),
        error=None if stage.error is None else StageError.model_validate(stage.error),
        artifact=stage.artifact,
        started_at=stage.started_at,
        finished_at=stage.finished_at,
    )


def attempt_view(attempt: Attempt, *, stage: str) -> AttemptView:
    """One claim of the stage of that name."""
    return AttemptView(
        stage=stage,
        attempt=attempt.number,
        fence=attempt.fence,
        outcome=attempt.outcome,
        owner=attempt.owner,
        device=attempt.device,
        error=None if attempt.error is None else StageError.model_validate(attempt.error),
        waited_seconds=attempt.waited_seconds,
        seconds=attempt.seconds,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
    )


def event_view(event: Event) -> EventView:
    """One event."""
    return EventView(job_id=event.subject, seq=event.seq, type=event.type, data=event.data, created_at=event.created_at)


def log_line(line: StageLog, *, stage: str) -> LogLine:
    """One log line of the stage of that name."""
    return LogLine(id=line.seq, stage=stage, attempt=line.attempt, line=line.line, created_at=line.created_at)


def artifact_view(stage: Stage, manifest: Manifest, *, expires_at: datetime | None) -> ArtifactView:
    """One stage's artifact, computed or reused."""
    return ArtifactView(
        stage=stage.name,
        kind=stage.kind,
        key=manifest.key,
        digest=manifest.digest,
        reused=stage.reused,
        bytes=sum(file.bytes for file in manifest.files),
        files=manifest.files,
        counts=manifest.result.counts,
        metrics=manifest.result.metrics,
        cost=manifest.result.cost,
        retention_class=FACTS[stage.kind].retention,
        expires_at=expires_at,
    )


def device_view(stage: Stage, *, of_team: str | None) -> DeviceView:
    """The device that a running stage holds; whose it is, where that is another team's, is left out."""
    mine = of_team in {None, stage.team}
    return DeviceView(
        name=stage.device or "",
        job_id=stage.job_id if mine else None,
        stage=stage.name,
        service=stage.queue,
        owner=stage.owner if mine else None,
        since=stage.started_at,
        lease_expires_at=stage.lease_expires_at,
    )


def _estimate(rows: JobRows) -> Estimate:
    """The estimate of the job's acceptance; for a retry whose datasets are gone, upper bounds from its plan."""
    if rows.job.estimate is not None:
        return Estimate.model_validate(rows.job.estimate)
    return upper_bounds(
        rows.resolved.spec,
        questions=rows.questions,
        evaluation_questions=rows.evaluation_questions,
        stages=[stage.kind for stage in rows.stages],
        reused=[position for position, stage in enumerate(rows.stages) if stage.reused],
    )


def _job_progress(job: Job, stages: Sequence[Stage]) -> Progress:
    running = next((stage for stage in stages if stage.status is StageStatus.RUNNING), None)
    if running is None:
        return Progress(percent=job.percent)
    progress = StageProgress.model_validate(running.progress or {})
    return Progress(
        percent=job.percent, stage=running.name, done=progress.done, total=progress.total, metrics=progress.metrics
    )


def _stage_progress(stage: Stage) -> Progress | None:
    if stage.progress is None:
        return None
    progress = StageProgress.model_validate(stage.progress)
    percent = 100.0 if stage.status is StageStatus.SUCCEEDED else 100.0 * progress.done / max(progress.total, 1)
    return Progress(percent=min(percent, 100.0), done=progress.done, total=progress.total, metrics=progress.metrics)


def _forecast(job: Job) -> datetime | None:
    """The end, if the rest goes as fast as the part that is done; unknown near the start and after the end."""
    if job.status is not JobStatus.RUNNING or job.started_at is None:
        return None
    if job.percent < _MIN_PERCENT_FOR_A_FORECAST:
        return None
    return job.started_at + (job.updated_at - job.started_at) * (100.0 / job.percent)


def _adapters(rows: JobRows) -> list[AdapterView]:
    artifacts = {stage.name: stage.artifact for stage in rows.stages}
    views = []
    for strategy in rows.resolved.spec.strategies:
        ref = artifacts.get(package_stage(strategy))
        if ref is None or ref not in rows.manifests:
            continue
        archive = next(file for file in rows.manifests[ref].files if file.path == ADAPTER_ARCHIVE)
        views.append(
            AdapterView(
                strategy=strategy,
                base_model=rows.resolved.model.id,
                artifact=ref,
                bytes=archive.bytes,
                sha256=archive.sha256,
                download=f"{ROOT}/jobs/{rows.job.id}/adapter?strategy={strategy.value}",
                expires_at=rows.expires.get(ref.key),
            )
        )
    return views


def _report(rows: JobRows) -> ReportView | None:
    ref = next((stage.artifact for stage in rows.stages if stage.name == REPORT), None)
    if ref is None:
        return None
    base = f"{ROOT}/jobs/{rows.job.id}/report"
    expires_at = rows.expires.get(ref.key)
    return ReportView(artifact=ref, json_url=f"{base}.json", html_url=f"{base}.html", expires_at=expires_at)


def _links(job_id: str) -> JobLinks:
    base = f"{ROOT}/jobs/{job_id}"
    return JobLinks(
        self=base,
        events=f"{base}/events",
        stages=f"{base}/stages",
        logs=f"{base}/logs",
        artifacts=f"{base}/artifacts",
        report=f"{base}/report",
        adapter=f"{base}/adapter",
        attempts=f"{base}/attempts",
        deploy=f"{base}/deploy",
        cancel=f"{base}/cancel",
        pause=f"{base}/pause",
        resume=f"{base}/resume",
        retry=f"{base}/retry",
        pin=f"{base}/pin",
    )
