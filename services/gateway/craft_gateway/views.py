"""From the tables' rows to what the API shows: pure functions. The only clock is the moment passed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from craft.contracts.events import StageStatus
from craft.contracts.job import JobStatus
from craft.contracts.model_server import ServedBase
from craft.contracts.problems import JobError, StageError
from craft.contracts.rest_datasets import DatasetStatistics
from craft.contracts.rows import ADAPTER_ARCHIVE
from craft.contracts.serving import AdapterDeployment, DeploymentLinks
from craft.contracts.stages import ArtifactRef, Manifest, Service, StageKind, StageProgress
from craft.contracts.views import (
    AdapterView,
    ArtifactView,
    DatasetLinks,
    DatasetView,
    DeviceView,
    EventView,
    JobLinks,
    JobView,
    LogLine,
    Progress,
    QueuePlace,
    ReportView,
    ResolvedSpec,
    StageView,
)
from craft.core.selection import Strategy
from craft_gateway.plan import ResolvedJob
from craft_gateway.submission_estimate import estimate
from craft_gateway.tables import Dataset, Deployment, Event, Job, Stage, StageLog

ROOT = "/craft"
OPENAI_ROOT = "/v1"
REPORT_STAGE = "report"
_WAITED_STEP_SECONDS = 10
_LEAST_PERCENT_FOR_A_FORECAST = 2.0
_MOVING = {JobStatus.QUEUED, JobStatus.RUNNING}
_ON_DEVICES = {Service.INFERENCE, Service.TRAINING}
"""Whose stages wait for a device, wherever one is shared."""


def package_stage(strategy: Strategy) -> str:
    """The name of the stage whose artifact holds the strategy's adapter."""
    return f"{StageKind.PACKAGE.value}:{strategy.value}"


@dataclass(frozen=True, slots=True)
class JobRows:
    """All that a job's view is made of. `questions` counts the dataset's rows, `place` the queued jobs ahead."""

    job: Job
    stages: Sequence[Stage]
    manifests: Mapping[ArtifactRef, Manifest]
    questions: int
    evaluation_questions: int
    place: int
    devices: Sequence[Stage] = ()
    """Running stages, of whatever job, that hold a device."""


def job_view(rows: JobRows, *, now: datetime) -> JobView:
    """A job as the API shows it. Running times count up to the last sign of life, so an idle job's view stays equal."""
    job, stages = rows.job, rows.stages
    resolved = ResolvedJob.model_validate(job.resolved)
    reused = [position for position, stage in enumerate(stages) if stage.reused]
    return JobView(
        id=job.id,
        name=job.name,
        status=job.status,
        status_reason=_waits_for_device(rows) or job.status_reason or _reason(job, stages),
        progress=_job_progress(job, stages),
        queue=QueuePlace(position=rows.place, waited_seconds=_waited_seconds(job, now)),
        stages=[stage_view(stage, until=job.updated_at) for stage in stages],
        resolved=resolved_view(resolved, questions=rows.questions),
        estimate=estimate(
            resolved.spec,
            questions=rows.questions,
            evaluation_questions=rows.evaluation_questions,
            stages=[stage.kind for stage in stages],
            reused=reused,
        ),
        error=None if job.error is None else JobError.model_validate(job.error),
        adapters=_adapters(job.id, resolved, stages, rows.manifests),
        report=_report(job.id, stages),
        priority=job.priority,
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


def event_view(event: Event) -> EventView:
    """One event."""
    return EventView(job_id=event.job_id, seq=event.seq, type=event.type, data=event.data, created_at=event.created_at)


def log_line(line: StageLog, *, stage: str) -> LogLine:
    """One log line of the stage of that name."""
    return LogLine(id=line.seq, stage=stage, attempt=line.attempt, line=line.line, created_at=line.created_at)


def artifact_view(stage: Stage, manifest: Manifest) -> ArtifactView:
    """What a stage wrote, or found there."""
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
    )


def dataset_view(dataset: Dataset) -> DatasetView:
    """A dataset."""
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        task=dataset.task,
        rows=dataset.rows,
        digest=dataset.digest,
        statistics=DatasetStatistics.model_validate(dataset.statistics),
        created_at=dataset.created_at,
        links=DatasetLinks(self=f"{ROOT}/datasets/{dataset.id}"),
    )


def device_view(stage: Stage) -> DeviceView:
    """The device that a running stage holds."""
    return DeviceView(
        name=stage.device or "",
        job_id=stage.job_id,
        stage=stage.name,
        service=stage.queue,
        owner=stage.owner,
        since=stage.started_at,
        lease_expires_at=stage.lease_expires_at,
    )


def deployment_view(row: Deployment) -> AdapterDeployment:
    """An adapter that is served."""
    return AdapterDeployment(
        id=row.id,
        model=row.id,
        job_id=row.job_id,
        strategy=row.strategy,
        base_model=ServedBase.model_validate(row.base).model.id,
        created_at=row.created_at,
        links=DeploymentLinks(
            job=f"{ROOT}/jobs/{row.job_id}",
            model=f"{OPENAI_ROOT}/models/{row.id}",
            chat_completions=f"{OPENAI_ROOT}/chat/completions",
        ),
    )


def _waits_for_device(rows: JobRows) -> str | None:
    """Who holds a device while nothing of this job runs and a stage of it is ready that would take one."""
    if rows.job.status not in _MOVING or any(stage.status is StageStatus.RUNNING for stage in rows.stages):
        return None
    ready = (stage for stage in rows.stages if stage.status is StageStatus.READY and stage.queue in _ON_DEVICES)
    waiting, holder = next(ready, None), next(iter(rows.devices), None)
    if waiting is None or holder is None:
        return None
    return (
        f"{waiting.name} waits for a free {waiting.queue.value} worker: "
        f"{holder.device} is held by {holder.name} of {holder.job_id}"
    )


def _reason(job: Job, stages: Sequence[Stage]) -> str | None:
    if job.status is JobStatus.QUEUED:
        ready = next((stage for stage in stages if stage.status is StageStatus.READY), None)
        return f"waits for a free {ready.queue.value} worker" if ready else None
    running = [stage.name for stage in stages if stage.status is StageStatus.RUNNING]
    return ", ".join(running) or None


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


def _waited_seconds(job: Job, now: datetime) -> float:
    began = job.started_at or job.finished_at
    if began is not None:
        return max(0.0, (began - job.created_at).total_seconds())
    return float((now - job.created_at) // timedelta(seconds=_WAITED_STEP_SECONDS) * _WAITED_STEP_SECONDS)


def _forecast(job: Job) -> datetime | None:
    """As if the rest went as fast as what is done; unknown near the start and once it is over."""
    if job.status is not JobStatus.RUNNING or job.started_at is None:
        return None
    if job.percent < _LEAST_PERCENT_FOR_A_FORECAST:
        return None
    return job.started_at + (job.updated_at - job.started_at) * (100.0 / job.percent)


def _adapters(
    job_id: str, resolved: ResolvedJob, stages: Sequence[Stage], manifests: Mapping[ArtifactRef, Manifest]
) -> list[AdapterView]:
    packaged = {stage.name: stage.artifact for stage in stages if stage.kind is StageKind.PACKAGE}
    views = []
    for strategy in resolved.spec.strategies:
        ref = packaged.get(package_stage(strategy))
        if ref is None or ref not in manifests:
            continue
        archive = next(file for file in manifests[ref].files if file.path == ADAPTER_ARCHIVE)
        views.append(
            AdapterView(
                strategy=strategy,
                base_model=resolved.model.id,
                artifact=ref,
                bytes=archive.bytes,
                sha256=archive.sha256,
                download=f"{ROOT}/jobs/{job_id}/adapter?strategy={strategy.value}",
            )
        )
    return views


def _report(job_id: str, stages: Sequence[Stage]) -> ReportView | None:
    ref = next((stage.artifact for stage in stages if stage.kind is StageKind.REPORT), None)
    if ref is None:
        return None
    base = f"{ROOT}/jobs/{job_id}/report"
    return ReportView(artifact=ref, json_url=f"{base}.json", html_url=f"{base}.html")


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
        deploy=f"{base}/deploy",
        cancel=f"{base}/cancel",
    )
