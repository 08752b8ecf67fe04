"""Reads jobs for the API: each method is one short read transaction. Ids are checked before any lookup."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlmodel import Session, col, select

from craft.contracts.public.jobs import (
    ArtifactList,
    AttemptList,
    EventList,
    EventView,
    JobList,
    JobView,
    LogList,
    QueueView,
    StageList,
)
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.core.strategies import Strategy
from craft.errors import Conflict, NotFound, RequestInvalid
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.job_views.queries import (
    MAX_QUEUED,
    event_heads,
    events_after,
    events_of,
    find_job,
    job_rows,
    manifests_of,
    stages_of,
    unfinished,
    versions_of,
)
from craft_gateway.job_views.queue_state import QueuedJob, queue_entry, queued_job
from craft_gateway.job_views.response_cache import JobSnapshot
from craft_gateway.job_views.views import (
    JobRows,
    artifact_view,
    attempt_view,
    device_view,
    event_view,
    job_view,
    log_line,
    stage_view,
)
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.retention.uses import expiries
from craft_gateway.scheduling.queue import QueueSnapshots, stages_on_devices
from craft_gateway.store.database import Database
from craft_gateway.store.paging import read_page
from craft_gateway.store.tables import Attempt, Job, Stage, StageLog

_LIFETIMES = RetentionSettings()


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which of a team's jobs to list; all conditions must hold. `after` is the id of the page before's last job."""

    team: str
    limit: int = 20
    after: str | None = None
    statuses: tuple[JobStatus, ...] = ()
    created_after: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class JobReader:
    """Reads jobs and the queue for the public API. Malformed and unknown ids are the same NotFound."""

    def __init__(
        self, database: Database, queues: QueueSnapshots, *, retention: RetentionSettings = _LIFETIMES
    ) -> None:
        self._database = database
        self._queues = queues
        self._retention = retention

    def job(self, job_id: str) -> JobView:
        """One job."""
        with self._database.read() as session:
            return self._views(session, [find_job(session, job_id)])[0]

    def views_of(self, jobs: Sequence[Job]) -> list[JobView]:
        """Jobs whose rows were read a moment ago, with their stages as they are now."""
        with self._database.read() as session:
            return self._views(session, jobs)

    def snapshot(self, job_ids: Collection[str]) -> JobSnapshot:
        """See `response_cache.Jobs`; one small query for all of them."""
        with self._database.read() as session:
            queues = self._queues.current(session, self._database.now)
            return JobSnapshot(versions_of(session, job_ids), queues)

    def queued_job(self, job_id: str) -> tuple[JobView, QueuedJob]:
        """One job, and the facts that its queue state is made of. Raises NotFound."""
        with self._database.read() as session:
            now = self._database.now(session)
            rows = self._rows(session, [find_job(session, job_id)])[0]
        return job_view(rows, now=now), queued_job(rows.job, rows.stages)

    def jobs(self, wanted: JobFilter) -> JobList:
        """A page of jobs, newest first."""
        query = select(Job).where(Job.team == wanted.team).order_by(col(Job.id).desc())
        if wanted.after is not None:
            query = query.where(col(Job.id) < wanted.after)
        if wanted.statuses:
            query = query.where(col(Job.status).in_(wanted.statuses))
        if wanted.created_after is not None:
            query = query.where(col(Job.created_at) > wanted.created_after)
        for key, value in wanted.labels.items():
            query = query.where(col(Job.labels)[key].as_string() == value)
        with self._database.read() as session:
            page = read_page(session, query, wanted.limit)
            views = self._views(session, page.rows)
        return JobList(data=views, has_more=page.has_more, last_id=page.last.id if page.last else None)

    def events(self, job_id: str, *, after: int, limit: int) -> Sequence[EventView]:
        """See `sse.EventSource.events`. An unknown job has none."""
        with self._database.read() as session:
            return events_of(session, job_id, after=after, limit=limit)

    def event_page(self, job_id: str, *, after: int, limit: int) -> EventList:
        """A page of a job's events."""
        with self._database.read() as session:
            find_job(session, job_id)
            page = read_page(session, events_after(job_id, after), limit)
        data = [event_view(event) for event in page.rows]
        return EventList(data=data, has_more=page.has_more, last_id=page.last.seq if page.last else None)

    def newer(self, heads: Mapping[str, int]) -> Mapping[str, Sequence[EventView]]:
        """See `sse.EventSource.newer`."""
        with self._database.read() as session:
            latest = event_heads(session, list(heads))
            return {
                job_id: events_of(session, job_id, after=head, limit=MAX_QUEUED)
                for job_id, head in heads.items()
                if latest.get(job_id, 0) > head
            }

    def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """See `sse.EventSource.heads`."""
        with self._database.read() as session:
            return event_heads(session, job_ids)

    def last_event(self, job_id: str) -> tuple[JobStatus, int]:
        """A job's status and the number of its last event."""
        with self._database.read() as session:
            job = find_job(session, job_id)
            return job.status, job.event_seq

    def stages(self, job_id: str) -> StageList:
        """All stages of a job in their planned order."""
        with self._database.read() as session:
            job = find_job(session, job_id)
            views = [stage_view(stage, until=job.updated_at) for stage in stages_of(session, [job_id])[job_id]]
        return StageList(data=views, last_id=views[-1].name if views else None)

    def logs(self, job_id: str, *, stage: str | None, after: int, limit: int) -> LogList:
        """A page of a job's log lines, of one stage if named."""
        with self._database.read() as session:
            find_job(session, job_id)
            names = {row.id: row.name for row in stages_of(session, [job_id])[job_id]}
            query = select(StageLog).where(StageLog.job_id == job_id, col(StageLog.seq) > after)
            if stage is not None:
                wanted = [stage_id for stage_id, name in names.items() if name == stage]
                if not wanted:
                    raise NotFound("The job has no such stage.", param="stage")
                query = query.where(StageLog.stage_id == wanted[0])
            page = read_page(session, query.order_by(col(StageLog.seq)), limit)
        data = [log_line(line, stage=names[line.stage_id]) for line in page.rows]
        return LogList(data=data, has_more=page.has_more, last_id=page.last.seq if page.last else None)

    def attempts(self, job_id: str) -> AttemptList:
        """Every claim of the job's stages, in the order in which they began."""
        with self._database.read() as session:
            find_job(session, job_id)
            names = {row.id: row.name for row in stages_of(session, [job_id])[job_id]}
            query = select(Attempt).where(Attempt.job_id == job_id)
            found = session.exec(query.order_by(col(Attempt.started_at), col(Attempt.stage_id))).all()
        return AttemptList(data=[attempt_view(attempt, stage=names[attempt.stage_id]) for attempt in found])

    def artifacts(self, job_id: str) -> ArtifactList:
        """The artifacts that the job's stages have written so far."""
        with self._database.read() as session:
            job = find_job(session, job_id)
            stages = [stage for stage in stages_of(session, [job_id])[job_id] if stage.artifact is not None]
            manifests = manifests_of(session, stages)
            expires = expiries(session, stages if job.status.terminal else (), self._retention)
        views = [
            artifact_view(s, manifests[s.artifact], expires_at=expires.get(s.artifact.key))
            for s in stages
            if s.artifact in manifests
        ]
        return ArtifactList(data=views, last_id=views[-1].stage if views else None)

    def output(self, job_id: str, stage_name: str) -> ArtifactRef:
        """The artifact of one stage. Raises NotFound if the job has no such stage, Conflict while unfinished."""
        with self._database.read() as session:
            job = find_job(session, job_id)
            query = select(Stage).where(Stage.job_id == job_id, Stage.name == stage_name)
            stage = session.exec(query).first()
        if stage is None:
            raise NotFound(f"The job has no stage {stage_name}.")
        if stage.artifact is None:
            raise _unfinished(job, stage)
        return stage.artifact

    def reused(self, job_id: str) -> Sequence[str]:
        """The names of the job's stages that earlier jobs had computed, in their planned order."""
        with self._database.read() as session:
            find_job(session, job_id)
            return [stage.name for stage in stages_of(session, [job_id])[job_id] if stage.reused]

    def row(self, job_id: str) -> Job:
        """The job's row."""
        with self._database.read() as session:
            return find_job(session, job_id)

    def resolved(self, job_id: str) -> ResolvedJob:
        """The job's resolved specification."""
        with self._database.read() as session:
            return ResolvedJob.model_validate(find_job(session, job_id).resolved)

    def queue(self, *, team: str | None) -> QueueView:
        """A team's unfinished jobs: those that run, then those that wait, in the order in which they are served.

        None is everybody's.
        """
        with self._database.read() as session:
            now = self._database.now(session)
            queues = self._queues.current(session, self._database.now)
            jobs = unfinished(session, team)
            devices = [device_view(stage, of_team=team) for stage in stages_on_devices(session)]
        entries = [queue_entry(job, stages, queues, now=now) for job, stages in jobs]
        entries.sort(key=lambda entry: (entry.status.waits, entry.status is JobStatus.PAUSED, entry.position))
        waiting = sum(entry.status.waits for entry in entries)
        return QueueView(running=len(entries) - waiting, waiting=waiting, data=entries, devices=devices)

    def chosen_strategy(self, job_id: str, asked: Strategy | None) -> Strategy:
        """The strategy asked for, or the only one. Raises NotFound if it has none such, and as `only_strategy`."""
        if asked is None:
            return self.only_strategy(job_id)
        strategies = self.resolved(job_id).spec.strategies
        if asked not in strategies:
            names = ", ".join(strategy.value for strategy in strategies)
            raise NotFound(f"The job has no adapter of {asked.value}.", hint=f"It has {names}.", param="strategy")
        return asked

    def only_strategy(self, job_id: str) -> Strategy:
        """The strategy of a job that has one. Raises NotFound, RequestInvalid if the caller must say which."""
        strategies = self.resolved(job_id).spec.strategies
        if len(strategies) > 1:
            names = ", ".join(strategy.value for strategy in strategies)
            raise RequestInvalid(
                f"The job has {len(strategies)} adapters.",
                hint=f"Say with `strategy` one of {names}.",
                param="strategy",
            )
        return strategies[0]

    def _views(self, session: Session, jobs: Sequence[Job]) -> list[JobView]:
        now = self._database.now(session)
        return [job_view(rows, now=now) for rows in self._rows(session, jobs)]

    def _rows(self, session: Session, jobs: Sequence[Job]) -> list[JobRows]:
        waiting = any(job.status.schedulable for job in jobs)
        queues = self._queues.current(session, self._database.now) if waiting else None
        return job_rows(session, jobs, queues, self._retention)


def _unfinished(job: Job, stage: Stage) -> Conflict:
    if job.status.terminal:
        again = f"`POST /craft/jobs/{job.id}/retry` goes on from there, in a new job."
        return Conflict(
            f"The job ended as {job.status.value} before its stage {stage.name} was done.",
            hint=again if job.error is None else f"See the job's `error`; once that is mended, {again}",
        )
    return Conflict(
        f"The job's stage {stage.name} is {stage.status.value}.",
        hint="Follow the job's events, or wait with `GET /craft/jobs/{id}?wait=30`, and ask again.",
    )
