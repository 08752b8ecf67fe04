"""Dispatch messages: written to the outbox in the transaction that made a stage ready, relayed after its commit."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, func, insert, or_, text, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Job, Outbox, Stage


class DispatchQueues(Protocol):
    """The broker. Both raise Unavailable where it does not answer."""

    def send(self, queue: Service, stage_id: str) -> None:
        """Put one message on the queue."""
        ...

    def length(self, queue: Service) -> int:
        """Give the number of unread messages on the queue."""
        ...


RELAY_PAGE = 200
_PAGE_LEASE = timedelta(seconds=30)
"""A relay's lease on its page; afterwards another relay may send it."""
_ANY_UNSENT = text("SELECT 1 FROM outbox WHERE sent_at IS NULL LIMIT 1")
"""Built once: an idle coordinator does hardly anything else."""


class OutboxRelay:
    """Sends each message at least once. Doubled messages are harmless: a stage is claimed once.

    Several may run: each leases a page, sends it outside any transaction, then marks what was sent.
    """

    def __init__(self, database: Database, queues: DispatchQueues) -> None:
        self._database = database
        self._queues = queues

    def send_due(self) -> int:
        """Send due messages, jobs of higher priority first; returns how many were handled. Raises the sender's errors.

        What was sent before the broker went away is marked as sent.
        """
        if not self._any_due():
            return 0
        leased = self._lease()
        sent: list[int] = []
        try:
            wanted = self._wanted({queue for _, queue, _ in leased})
            for row_id, queue, stage_id in leased:
                if wanted[queue] > 0:
                    self._queues.send(queue, stage_id)
                    wanted[queue] -= 1
                sent.append(row_id)
        finally:
            self._mark_handled(sent, [row_id for row_id, _, _ in leased[len(sent) :]])
        return len(sent)

    def _any_due(self) -> bool:
        """Looked at several times a second: a transaction that writes would hold SQLite's only lock for nothing."""
        with self._database.read() as session:
            if session.connection().execute(_ANY_UNSENT).first() is None:
                return False
            due = select(Outbox.id).where(*_due(self._database.now(session))).limit(1)
            return session.exec(due).first() is not None

    def _wanted(self, queues: Collection[Service]) -> dict[Service, int]:
        """Ready stages minus unread messages, by queue: any message lets a worker take the next ready stage.

        Without this, stages that wait for days would be dispatched each minute until the broker is full.
        """
        with self._database.read() as session:
            ready = select(Stage.queue, func.count()).where(
                col(Stage.queue).in_(queues), Stage.status == StageStatus.READY
            )
            counts = dict(session.exec(ready.group_by(col(Stage.queue))).all())
        return {queue: counts.get(queue, 0) - self._queues.length(queue) for queue in queues}

    def _lease(self) -> Sequence[tuple[int, Service, str]]:
        with self._database.write() as session:
            now = self._database.now(session)
            rows = session.exec(
                select(Outbox.id, Outbox.queue, Outbox.stage_id)
                .join(Stage, col(Stage.id) == col(Outbox.stage_id))
                .join(Job, col(Job.id) == col(Stage.job_id))
                .where(*_due(now))
                .order_by(col(Job.priority).desc(), col(Outbox.id))
                .limit(RELAY_PAGE)
                .with_for_update(of=Outbox, skip_locked=True)
            )
            leased = [(row_id, Service(queue), stage_id) for row_id, queue, stage_id in rows if row_id is not None]
            if leased:
                page = update(Outbox).where(col(Outbox.id).in_([row_id for row_id, _, _ in leased]))
                session.connection().execute(page.values(leased_until=now + _PAGE_LEASE))
            return leased

    def _mark_handled(self, sent: Sequence[int], unsent: Sequence[int]) -> None:
        if not sent and not unsent:
            return
        with self._database.write() as session:
            rows = update(Outbox).where(col(Outbox.sent_at).is_(None))
            connection = session.connection()
            connection.execute(rows.where(col(Outbox.id).in_(sent)).values(sent_at=self._database.now(session)))
            connection.execute(rows.where(col(Outbox.id).in_(unsent)).values(leased_until=None))


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    free = or_(col(Outbox.leased_until).is_(None), col(Outbox.leased_until) <= now)
    return (col(Outbox.sent_at).is_(None), col(Outbox.due_at) <= now, free)


_MAX_MESSAGES = 500
"""On one queue: no more workers than that are idle at once, and maintenance dispatches the rest."""


class Blocked(NamedTuple):
    """Reasons that keep ready stages from free workers: a full artifact store, teams that used up their GPU seconds."""

    no_space: bool = False
    teams: frozenset[str] = frozenset()


def dispatch_next_job(session: Session, team: str, now: datetime) -> None:
    """A slot of the team's running jobs is free: dispatch the first stage of its next job, whatever its queue."""
    for queue in Service:
        first = _ready(queue, now).where(Stage.team == team).join(Job, col(Job.id) == col(Stage.job_id))
        first = first.where(Job.status == JobStatus.QUEUED).order_by(col(Stage.rank), col(Stage.job_id)).limit(1)
        _dispatch(session, queue, first, now)


def dispatch_ready(session: Session, now: datetime, *, teams: Collection[str] | None) -> None:
    """Dispatch the ready stages of these teams, or of all teams."""
    for queue in Service:
        ready = _ready(queue, now)
        theirs = ready if teams is None else ready.where(col(Stage.team).in_(teams))
        _dispatch(session, queue, theirs.limit(_MAX_MESSAGES), now)


def _ready(queue: Service, now: datetime) -> SelectOfScalar[str]:
    due = or_(col(Stage.not_before).is_(None), col(Stage.not_before) <= now)
    return select(Stage.id).where(Stage.queue == queue, Stage.status == StageStatus.READY, due)


def _dispatch(session: Session, queue: Service, stages: SelectOfScalar[str], now: datetime) -> None:
    messages = [{"stage_id": found, "queue": queue, "created_at": now, "due_at": now} for found in session.exec(stages)]
    if messages:
        session.connection().execute(insert(Outbox), messages)
