"""The members of a job's view that change with other jobs: its place in line, and why it waits. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from craft.contracts.base import Contract
from craft.contracts.events import StageStatus
from craft.contracts.public.jobs import QueueEntry, QueuePlace
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.scheduling.queue import DeviceHolder, QueuePosition, QueueSnapshot

_WAITED_STEP_SECONDS = 10


class JobColumns(Protocol):
    """What of a job's row says where it stands."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def status(self) -> JobStatus: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def team(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...


class StageColumns(Protocol):
    """What of a stage's row says whether the job waits."""

    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> Service: ...
    @property
    def status(self) -> StageStatus: ...


class QueueState(Contract):
    """These members of `JobView`."""

    status_reason: str | None
    queue: QueuePlace


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What of a job its standing is made of: all that changes with the job itself only."""

    team: str
    status: JobStatus
    reason: str | None
    """Why it is as it is, where no other job is the reason."""
    runs: bool
    needs_device: tuple[str, Service] | None
    """The first ready stage that would take a device."""
    created_at: datetime
    began_at: datetime | None


def waiter(job: JobColumns, stages: Sequence[StageColumns]) -> QueuedJob:
    """Of `stages` only those count that are ready or running."""
    wanted = (stage for stage in stages if stage.status is StageStatus.READY and stage.queue.uses_accelerator)
    return QueuedJob(
        team=job.team,
        status=job.status,
        reason=job.status_reason or _reason(job, stages),
        runs=any(stage.status is StageStatus.RUNNING for stage in stages),
        needs_device=next(((stage.name, stage.queue) for stage in wanted), None),
        created_at=job.created_at,
        began_at=job.started_at or job.finished_at,
    )


def standing(job: QueuedJob, *, place: QueuePosition | None, holder: DeviceHolder | None, now: datetime) -> QueueState:
    """Where the job stands; `place` is that of its ready stages, `holder` who holds a device. `now` may lag."""
    ahead = place.ahead if place is not None and job.status is JobStatus.QUEUED else 0
    return QueueState(
        status_reason=_held_up(job, place) or _waits_for_device(job, holder) or job.reason,
        queue=QueuePlace(position=ahead, waited_seconds=_waited_seconds(job, now)),
    )


def queue_entry(job: JobColumns, stages: Sequence[StageColumns], line: QueueSnapshot, *, now: datetime) -> QueueEntry:
    """The job among all that are unfinished; of `stages` only those count that are ready or running."""
    place = line.positions.get(job.id)
    stands = standing(waiter(job, stages), place=place, holder=line.holder, now=now)
    return QueueEntry(
        job_id=job.id,
        name=job.name,
        status=job.status,
        team=job.team,
        priority=job.priority,
        position=stands.queue.position,
        waited_seconds=stands.queue.waited_seconds,
        reason=stands.status_reason,
        estimated_start_at=place.estimated_start_at if place and job.status is JobStatus.QUEUED else None,
    )


def _held_up(job: QueuedJob, place: QueuePosition | None) -> str | None:
    """What more than a worker the job waits for, while nothing of it runs."""
    return None if place is None or job.runs else place.reason


def _waits_for_device(job: QueuedJob, holder: DeviceHolder | None) -> str | None:
    """Who holds a device while nothing of this job runs and a stage of it is ready that would take one."""
    if not job.status.schedulable or job.runs or job.needs_device is None or holder is None:
        return None
    stage, service = job.needs_device
    whose = f"{holder.stage} of {holder.job_id}" if holder.team == job.team else "another team's job"
    return f"{stage} waits for a free {service.value} worker: {holder.device} is held by {whose}"


def _reason(job: JobColumns, stages: Sequence[StageColumns]) -> str | None:
    if job.status is JobStatus.QUEUED:
        ready = next((stage for stage in stages if stage.status is StageStatus.READY), None)
        return f"waits for a free {ready.queue.value} worker" if ready else None
    running = [stage.name for stage in stages if stage.status is StageStatus.RUNNING]
    return ", ".join(running) or None


def _waited_seconds(job: QueuedJob, now: datetime) -> float:
    if job.began_at is not None:
        return max(0.0, (job.began_at - job.created_at).total_seconds())
    steps = (now - job.created_at) // timedelta(seconds=_WAITED_STEP_SECONDS)
    return float(max(0, steps) * _WAITED_STEP_SECONDS)
