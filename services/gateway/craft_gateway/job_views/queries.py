"""The queries behind the views, each over an open session; a page of jobs costs a fixed number of them."""

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from craft.contracts.base import JOB_ID
from craft.contracts.events import EventType, StageStatus
from craft.contracts.public.jobs import EventView
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.kinds import StageKind
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.access.owners import no_job
from craft_gateway.job_views.queue_state import JobColumns, StageColumns
from craft_gateway.job_views.views import JobRows, event_view
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.retention.uses import expiries
from craft_gateway.scheduling.queue import QueueSnapshot
from craft_gateway.store.tables import Artifact, Dataset, Event, Job, Stage

MAX_QUEUED = 1000
_VERSIONS = columns(col(Job.id), col(Job.updated_at), col(Job.event_seq), col(Job.status)).where(
    col(Job.id).in_(bindparam("job_ids", expanding=True))
)
_UNSHOWN = (defer(Stage.parameters), defer(Stage.inputs))  # type: ignore[arg-type] # SQLModel's own types
_UNFINISHED_JOBS = (
    columns(
        col(Job.id),
        col(Job.name),
        col(Job.status),
        col(Job.status_reason),
        col(Job.team),
        col(Job.priority),
        col(Job.created_at),
        col(Job.started_at),
        col(Job.finished_at),
    )
    .where(col(Job.status).in_([status for status in JobStatus if not status.terminal]))
    .order_by(col(Job.id))
    .limit(MAX_QUEUED)
)
_UNFINISHED_OF_TEAM = _UNFINISHED_JOBS.where(col(Job.team) == bindparam("team"))
_MOVING_STAGES = (
    columns(col(Stage.job_id), col(Stage.name), col(Stage.queue), col(Stage.status))
    .where(col(Stage.job_id).in_(bindparam("job_ids", expanding=True)))
    .where(col(Stage.status).in_([StageStatus.READY, StageStatus.RUNNING]))
    .order_by(col(Stage.position))
)
_RESULTS = {StageKind.PACKAGE, StageKind.REPORT}


def is_job_id(text: str) -> bool:
    """True if the text has the form of a job's id."""
    return re.fullmatch(JOB_ID, text) is not None


def find_job(session: Session, job_id: str) -> Job:
    """The job, or NotFound. Malformed ids are looked up nowhere."""
    found = session.get(Job, job_id) if is_job_id(job_id) else None
    if found is None:
        raise no_job()
    return found


def versions_of(session: Session, job_ids: Collection[str]) -> dict[str, Hashable]:
    """The version of each job that exists, by id: it differs once the job or a stage of it has changed."""
    asked = [job_id for job_id in job_ids if is_job_id(job_id)]
    # Past the ORM: polls ask nothing else most of the time.
    found = session.connection().execute(_VERSIONS, {"job_ids": asked}) if asked else ()
    return {row[0]: tuple(row[1:]) for row in found}


def unfinished(session: Session, team: str | None) -> list[tuple[JobColumns, list[StageColumns]]]:
    """A team's oldest jobs that have not ended, each with its stages that are ready or run, in their planned order.

    None is everybody's.
    """
    # There may be hundreds: a few columns of each, and no objects of the ORM.
    query = _UNFINISHED_JOBS if team is None else _UNFINISHED_OF_TEAM
    jobs: Sequence[Any] = session.connection().execute(query, {} if team is None else {"team": team}).all()
    stages: dict[str, list[StageColumns]] = defaultdict(list)
    for stage in session.connection().execute(_MOVING_STAGES, {"job_ids": [job.id for job in jobs]}):
        stages[stage.job_id].append(stage)
    return [(job, stages[job.id]) for job in jobs]


def job_rows(
    session: Session, jobs: Sequence[Job], queues: QueueSnapshot | None, retention: RetentionSettings
) -> list[JobRows]:
    """The rows behind the views of these jobs, in a fixed number of queries. Without `queues` none of them waits."""
    stages = stages_of(session, [job.id for job in jobs])
    packages = [s for of_job in stages.values() for s in of_job if s.kind is StageKind.PACKAGE]
    manifests = manifests_of(session, packages)
    results = [s for job in jobs if job.status.terminal for s in stages[job.id] if s.kind in _RESULTS]
    expires = expiries(session, results, retention) if results else {}
    resolved = {job.id: ResolvedJob.model_validate(job.resolved) for job in jobs}
    sizes = _dataset_sizes(session, list(resolved.values()))
    return [
        JobRows(
            job=job,
            resolved=resolved[job.id],
            stages=stages[job.id],
            manifests=manifests,
            questions=sizes.get(resolved[job.id].dataset, 0),
            evaluation_questions=sum(sizes.get(ref, 0) for ref in resolved[job.id].evaluation.values()),
            position=queues.positions.get(job.id) if queues else None,
            device_owner=queues.device_owner if queues else None,
            expires=expires if job.status.terminal else {},
        )
        for job in jobs
    ]


def stages_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[Stage]]:
    """Each job's stages in their planned order, without what they are asked to do: views show none of it."""
    query = select(Stage).where(col(Stage.job_id).in_(job_ids)).order_by(col(Stage.position)).options(*_UNSHOWN)
    found: dict[str, list[Stage]] = defaultdict(list)
    for stage in session.exec(query):
        found[stage.job_id].append(stage)
    return found


def manifests_of(session: Session, stages: Sequence[Stage]) -> dict[ArtifactRef, Manifest]:
    """Manifests of what the stages wrote."""
    keys = {stage.artifact_key for stage in stages if stage.artifact_key is not None}
    found = session.exec(select(Artifact).where(col(Artifact.key).in_(keys))) if keys else ()
    return {artifact.ref: Manifest.model_validate(artifact.manifest) for artifact in found}


def _dataset_sizes(session: Session, jobs: Sequence[ResolvedJob]) -> dict[ArtifactRef, int]:
    keys = {ref.key for job in jobs for ref in (job.dataset, *job.evaluation.values())}
    found = session.exec(select(Dataset).where(col(Dataset.content_hash).in_(keys))) if keys else ()
    sizes = {dataset.ref: dataset.rows for dataset in found}
    return sizes | _sizes_on_record(session, jobs, known=sizes)


def _sizes_on_record(
    session: Session, jobs: Sequence[ResolvedJob], *, known: Collection[ArtifactRef]
) -> dict[ArtifactRef, int]:
    """Sizes of datasets that were deleted since, from their last event."""
    named = {dataset_id: ref for job in jobs for dataset_id, ref in job.datasets.items() if ref not in known}
    if not named:
        return {}
    gone = select(Event).where(col(Event.subject).in_(list(named)), Event.type == EventType.DATASET_DELETED)
    return {named[event.subject]: int(event.data.get("rows", 0)) for event in session.exec(gone)}


def event_heads(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The number of each job's last event."""
    return dict(session.exec(select(Job.id, Job.event_seq).where(col(Job.id).in_(job_ids))).all())


def events_after(job_id: str, after: int) -> SelectOfScalar[Event]:
    """The query for a job's events with numbers above `after`, in order."""
    return select(Event).where(Event.subject == job_id, col(Event.seq) > after).order_by(col(Event.seq))


def events_of(session: Session, job_id: str, *, after: int, limit: int) -> list[EventView]:
    """A job's first `limit` events with numbers above `after`, in order."""
    return [event_view(event) for event in session.exec(events_after(job_id, after).limit(limit))]
