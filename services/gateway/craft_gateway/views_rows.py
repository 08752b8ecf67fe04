"""The queries behind the views, each over an open session; a page of jobs costs a fixed number of them."""

import re
from collections import defaultdict
from collections.abc import Sequence

from sqlmodel import Session, col, select

from craft.contracts.base import JOB_ID
from craft.contracts.events import StageStatus
from craft.contracts.job import JobStatus
from craft.contracts.stages import ArtifactRef, Manifest, StageKind
from craft.contracts.views import EventView
from craft.errors import NotFound
from craft_gateway.plan import ResolvedJob
from craft_gateway.tables import Artifact, Dataset, Event, Job, Stage
from craft_gateway.views import JobRows, event_view

MOST_QUEUED = 1000


def find_job(session: Session, job_id: str) -> Job:
    """The job, or NotFound. Malformed ids are looked up nowhere."""
    found = session.get(Job, job_id) if re.fullmatch(JOB_ID, job_id) else None
    if found is None:
        raise NotFound("There is no job with this id.", hint="`GET /craft/jobs` lists them.")
    return found


def job_rows(session: Session, jobs: Sequence[Job]) -> list[JobRows]:
    """What the views of these jobs are made of, in a fixed number of queries."""
    stages = stages_of(session, [job.id for job in jobs])
    packages = [s for of_job in stages.values() for s in of_job if s.kind is StageKind.PACKAGE]
    manifests = manifests_of(session, packages)
    places = _places(session) if any(job.status is JobStatus.QUEUED for job in jobs) else {}
    resolved = {job.id: ResolvedJob.model_validate(job.resolved) for job in jobs}
    sizes = _dataset_sizes(session, list(resolved.values()))
    waiting = any(stage.status is StageStatus.READY for of_job in stages.values() for stage in of_job)
    devices = held_devices(session) if waiting else []
    return [
        JobRows(
            job=job,
            stages=stages[job.id],
            manifests=manifests,
            questions=sizes.get(resolved[job.id].dataset, 0),
            evaluation_questions=sum(sizes.get(ref, 0) for ref in resolved[job.id].evaluation.values()),
            place=places.get(job.id, 0),
            devices=devices,
        )
        for job in jobs
    ]


def stages_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[Stage]]:
    """Each job's stages in their planned order."""
    query = select(Stage).where(col(Stage.job_id).in_(job_ids)).order_by(col(Stage.position))
    found: dict[str, list[Stage]] = defaultdict(list)
    for stage in session.exec(query):
        found[stage.job_id].append(stage)
    return found


def manifests_of(session: Session, stages: Sequence[Stage]) -> dict[ArtifactRef, Manifest]:
    """Manifests of what the stages wrote."""
    keys = {stage.artifact_key for stage in stages if stage.artifact_key is not None}
    found = session.exec(select(Artifact).where(col(Artifact.key).in_(keys))) if keys else ()
    return {artifact.ref: Manifest.model_validate(artifact.manifest) for artifact in found}


def held_devices(session: Session) -> list[Stage]:
    """Running stages that hold a device, the oldest holder first."""
    query = select(Stage).where(Stage.status == StageStatus.RUNNING, col(Stage.device).is_not(None))
    return list(session.exec(query.order_by(col(Stage.started_at), col(Stage.id)).limit(MOST_QUEUED)))


def _dataset_sizes(session: Session, jobs: Sequence[ResolvedJob]) -> dict[ArtifactRef, int]:
    keys = {ref.key for job in jobs for ref in (job.dataset, *job.evaluation.values())}
    found = session.exec(select(Dataset).where(col(Dataset.content_hash).in_(keys))) if keys else ()
    return {dataset.ref: dataset.rows for dataset in found}


def _places(session: Session) -> dict[str, int]:
    """How many queued jobs are ahead of each queued job: higher priority first, then the older."""
    query = select(Job.id).where(Job.status == JobStatus.QUEUED)
    ordered = session.exec(query.order_by(col(Job.priority).desc(), col(Job.id)).limit(MOST_QUEUED))
    return {job_id: place for place, job_id in enumerate(ordered)}


def event_heads(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """The number of each job's last event."""
    return dict(session.exec(select(Job.id, Job.event_seq).where(col(Job.id).in_(job_ids))).all())


def events_of(session: Session, job_id: str, *, after: int, limit: int) -> list[EventView]:
    """A job's events with numbers above `after`, in order."""
    query = select(Event).where(Event.job_id == job_id, col(Event.seq) > after).order_by(col(Event.seq)).limit(limit)
    return [event_view(event) for event in session.exec(query)]
