"""One transaction on one job: its row is locked, so its events have no gaps and its end is written once."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import Session, col, select

from craft.contracts.events import EventType, StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.claims import StageProgress
from craft.errors import Internal, LeaseLost
from craft_gateway.access.identity import current_actor
from craft_gateway.access.owners import no_job
from craft_gateway.events import announce
from craft_gateway.lifecycle.dispatch import dispatch_next_job
from craft_gateway.plan.progress import StageShare, percent_done
from craft_gateway.scheduling.allowances import team_allowances
from craft_gateway.scheduling.fair_share import charge
from craft_gateway.store.database import Clock, Database
from craft_gateway.store.tables import Attempt, Event, Job, Outbox, Stage, StageLog

MAX_LOG_LINES = 200_000
"""Lines kept of one job; later ones are dropped, so that a chatty library cannot fill the database."""
_MAX_LINE_LENGTH = 2_000
_OUTCOME = {
    StageStatus.SUCCEEDED: AttemptOutcome.SUCCEEDED,
    StageStatus.FAILED: AttemptOutcome.FAILED,
    StageStatus.CANCELLED: AttemptOutcome.STOPPED,
    StageStatus.SKIPPED: AttemptOutcome.STOPPED,
}
_TERMINAL_EVENT = {
    JobStatus.SUCCEEDED: EventType.JOB_SUCCEEDED,
    JobStatus.FAILED: EventType.JOB_FAILED,
    JobStatus.CANCELLED: EventType.JOB_CANCELLED,
}


@contextmanager
def job_transaction(database: Database, job_id: str) -> Iterator["JobTransaction"]:
    """One transaction on the job; a slot of its team that it frees goes to the team's next job. Raises NotFound."""
    with database.write() as session:
        transaction = JobTransaction.open(session, database.now, job_id)
        counted = transaction.job.status.counts_as_running
        yield transaction
        freed = counted and not transaction.job.status.counts_as_running
        if freed and team_allowances(session).allowance(transaction.job.team).max_running_jobs is not None:
            dispatch_next_job(session, transaction.job.team, transaction.now)


class JobTransaction:
    """The job, its stages and what may be done to them within the transaction; its events are `actor`'s doing."""

    def __init__(self, session: Session, now: datetime, job: Job, *, actor: str | None) -> None:
        self.session = session
        self.now = now
        self.job = job
        self._actor = actor

    @classmethod
    def open(cls, session: Session, clock: Clock, job_id: str) -> "JobTransaction":
        """Lock the job, then read the clock: a clock read before the lock could revive an expired lease. NotFound."""
        # PostgreSQL locks the row; on SQLite the whole transaction is already the only writer.
        job = session.exec(
            select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
        ).one_or_none()
        if job is None:
            raise no_job()
        return cls(session, clock(session), job, actor=current_actor())

    @cached_property
    def stages(self) -> list[Stage]:
        """All stages of the job in planned order."""
        rows = select(Stage).where(Stage.job_id == self.job.id).order_by(col(Stage.position))
        return list(self.session.exec(rows.execution_options(populate_existing=True)))

    def stage(self, stage_id: str) -> Stage:
        """One stage of the job, as it is now that the job is locked."""
        return next(stage for stage in self.stages if stage.id == stage_id)

    def leased(self, stage_id: str, fence: int) -> Stage:
        """The running stage that the fence belongs to. Raises LeaseLost."""
        stage = self.stage(stage_id)
        if stage.status is not StageStatus.RUNNING or stage.fence != fence:
            raise LeaseLost(
                f"The stage {stage.name} is no longer yours (fence {fence}).", hint="Stop; discard the work."
            )
        return stage

    def move(self, stage: Stage, to: StageStatus, **values: Any) -> None:
        """Compare-and-set: the row must still have the status and fence that were read. Raises LeaseLost."""
        values["status"] = to
        changed = self.session.connection().execute(
            update(Stage)
            .where(col(Stage.id) == stage.id, col(Stage.status) == stage.status, col(Stage.fence) == stage.fence)
            .values(**values)
        )
        if changed.rowcount != 1:
            raise LeaseLost(f"The stage {stage.name} has changed hands.")
        for name, value in values.items():
            set_committed_value(stage, name, value)
        self.job.updated_at = self.now

    def end_attempt(self, stage: Stage, to: StageStatus, **values: Any) -> None:
        """`move` a stage to where no worker has it. `error` says that its attempt, where it has one, failed."""
        if stage.status is StageStatus.RUNNING:
            self._close_attempt(stage, _OUTCOME.get(to), values.get("error"))
        free: dict[str, Any] = dict.fromkeys(("owner", "device", "lease_expires_at", "heard_by", "deadline_at"))
        free["unheard"] = False
        ended = {"finished_at": self.now} if to.terminal else {}
        self.move(stage, to, **free, **ended, **values)

    def _close_attempt(self, stage: Stage, outcome: AttemptOutcome | None, error: dict[str, Any] | None) -> None:
        attempt = self.session.get_one(Attempt, (stage.id, stage.fence))
        attempt.outcome = outcome or (AttemptOutcome.FAILED if error else AttemptOutcome.RELEASED)
        attempt.error = error
        attempt.ended_at = self.now
        attempt.seconds = max(0.0, (self.now - attempt.started_at).total_seconds())
        charge(self.session, attempt)

    def dispatch(self, stage: Stage, *, due: datetime | None = None) -> None:
        """Put a dispatch message into the outbox: it is sent after the commit, not before `due`."""
        row = Outbox(stage_id=stage.id, queue=stage.queue, created_at=self.now, due_at=due or self.now)
        self.session.add(row)

    def emit(self, type_: EventType, **data: Any) -> None:
        """Write the job's next event. Of a job that has ended, only its end and its adapters have anything to tell."""
        if self.job.status.terminal and not (type_.terminal or type_.of_adapter):
            return
        self.job.event_seq += 1
        self.job.updated_at = self.now
        event = Event(
            subject=self.job.id,
            seq=self.job.event_seq,
            team=self.job.team,
            actor=self._actor,
            type=type_,
            data=data,
            created_at=self.now,
        )
        self.session.add(event)
        announce(self.session, event)

    def log(self, stage: Stage, lines: Iterable[str]) -> None:
        """Keep log lines, shortened, up to the job's limit."""
        for line in lines:
            if self.job.log_seq >= MAX_LOG_LINES:
                return
            self.job.log_seq += 1
            kept = storable(line)[:_MAX_LINE_LENGTH]
            self.session.add(
                StageLog(
                    job_id=self.job.id,
                    seq=self.job.log_seq,
                    stage_id=stage.id,
                    attempt=stage.attempt,
                    line=kept,
                    created_at=self.now,
                )
            )

    def start(self, reason: str) -> None:
        """A stage of the job has begun (or all were found done)."""
        self.job.status_reason = reason
        if self.job.status is JobStatus.QUEUED:
            self.job.status = JobStatus.RUNNING
            if self.job.started_at is None:
                self.job.started_at = self.now
                self.emit(EventType.JOB_STARTED)

    def end(self, status: JobStatus, *, reason: str, error: dict[str, Any] | None = None) -> None:
        """Write the terminal status. Raises Internal if there is one already."""
        if self.job.status.terminal:
            raise Internal(f"The job {self.job.id} has ended already.")
        self.job.status = status
        self.job.status_reason = storable(reason)
        self.job.error = error
        self.job.finished_at = self.now
        self.job.percent = self.percent()
        self.emit(_TERMINAL_EVENT[status], **({"error": error} if error else {}))

    def percent(self) -> float:
        """Percent of the job that is done by now."""
        return percent_done(StageShare(stage.kind, _share(stage)) for stage in self.stages)


def storable(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _share(stage: Stage) -> float:
    if stage.status is StageStatus.SUCCEEDED:
        return 1.0
    if stage.progress is None:
        return 0.0
    progress = StageProgress.model_validate(stage.progress)
    # Only success is the whole of it: publishing still lies ahead of the last step.
    return min(0.99, progress.done / progress.total) if progress.total else 0.0
