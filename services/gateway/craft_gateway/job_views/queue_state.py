"""The members of a job's view that change with other jobs: its queue position and why it waits. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from craft.contracts.base import Contract
from craft.contracts.events import StageStatus
from craft.contracts.public.jobs import QueueEntry, QueuePlace
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.scheduling.queue import DeviceOwner, QueuePosition, QueueSnapshot

_WAITED_STEP_SECONDS = 10


class JobColumns(Protocol):
    """The columns of a job's row that its queue state depends on."""

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
    """The columns of a stage's row that its job's queue state depends on."""

    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> Service: ...
    @property
    def status(self) -> StageStatus: ...


class QueueState(Contract):
    """These members of `JobView`, which change with other jobs too."""

    status_reason: str | None
    queue: QueuePlace


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """The facts of a job that its queue state is made of. They change with the job itself only."""

    team: str
    status: JobStatus
    reason: str | None
    """The reason of its status, where no other job is the reason."""
    runs: bool
    needs_device: tuple[str, Service] | None
    """The first ready stage that would take a device."""
    created_at: datetime
    began_at: datetime | None


def queued_job(job: JobColumns, stages: Sequence[StageColumns]) -> QueuedJob:
    """Only those of `stages` count that are ready or running."""
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


def queue_state(
    job: QueuedJob, *, position: QueuePosition | None, device_owner: DeviceOwner | None, now: datetime
) -> QueueState:
    """The job's queue state. `position` is the best of its ready stages. `now` may lag behind the clock."""
    ahead = position.ahead if position is not None and job.status is JobStatus.QUEUED else 0
    return QueueState(
        status_reason=_blocked_by(job, position) or _waits_for_device(job, device_owner) or job.reason,
        queue=QueuePlace(position=ahead, waited_seconds=_waited_seconds(job, now)),
    )


def queue_entry(
    job: JobColumns, stages: Sequence[StageColumns], snapshot: QueueSnapshot, *, now: datetime
) -> QueueEntry:
    """The job among all unfinished ones; of `stages` only those count that are ready or running."""
    position = snapshot.positions.get(job.id)
    state = queue_state(queued_job(job, stages), position=position, device_owner=snapshot.device_owner, now=now)
    return QueueEntry(
        job_id=job.id,
        name=job.name,
        status=job.status,
        team=job.team,
        priority=job.priority,
        position=state.queue.position,
        waited_seconds=state.queue.waited_seconds,
        reason=state.status_reason,
        estimated_start_at=position.estimated_start_at if position and job.status is JobStatus.QUEUED else None,
    )


def _blocked_by(job: QueuedJob, position: QueuePosition | None) -> str | None:
    """The quota or the full store that blocks the job, while no stage of it runs."""
    return None if position is None or job.runs else position.reason


def _waits_for_device(job: QueuedJob, owner: DeviceOwner | None) -> str | None:
    """The owner of a device, while no stage of this job runs and a ready one would take a device."""
    if not job.status.schedulable or job.runs or job.needs_device is None or owner is None:
        return None
    stage, service = job.needs_device
    whose = f"'{owner.job_name}'" if owner.job_name else owner.job_id
    by = f"{owner.stage} of {whose}" if owner.team == job.team else "another team's job"
    return f"{stage} waits for a free {service.value} worker: {owner.device} is busy with {by}"


def _reason(job: JobColumns, stages: Sequence[StageColumns]) -> str | None:
    running = [stage.name for stage in stages if stage.status is StageStatus.RUNNING]
    ready = next((stage for stage in stages if stage.status is StageStatus.READY), None)
    if job.status.schedulable and ready is not None and not running:
        return f"{ready.name} waits for a free {ready.queue.value} worker"
    return ", ".join(running) or None


def _waited_seconds(job: QueuedJob, now: datetime) -> float:
    if job.began_at is not None:
        return max(0.0, (job.began_at - job.created_at).total_seconds())
    steps = (now - job.created_at) // timedelta(seconds=_WAITED_STEP_SECONDS)
    return float(max(0, steps) * _WAITED_STEP_SECONDS)
