"""The relay: hints leave the outbox for the broker after the commit that made them, and stay while it is down."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, update
from sqlmodel import col, select

from craft.contracts.stages import Service
from craft_gateway.database import Database
from craft_gateway.tables import Job, Outbox, Stage

Send = Callable[[Service, str], None]
"""Sends one hint (queue, stage id). Raises Unavailable where the broker does not answer."""

PAGE = 200
_SENDING_FOR = timedelta(seconds=30)
"""How long a relay has for its page; afterwards another one may send it."""


class Relay:
    """Sends each hint at least once. Doubled hints are harmless: a stage is claimed once.

    Several may run: each takes its page for itself, sends it outside any transaction, then marks what was sent.
    """

    def __init__(self, database: Database, send: Send) -> None:
        self._database = database
        self._send = send

    def send_due(self) -> int:
        """Send what is due, jobs of higher priority first; returns how many. Raises what the sender raises.

        What was sent before the broker went away is marked as sent.
        """
        if not self._any_due():
            return 0
        taken = self._take()
        sent: list[int] = []
        try:
            for row_id, queue, stage_id in taken:
                self._send(queue, stage_id)
                sent.append(row_id)
        finally:
            self._settle(sent, [row_id for row_id, _, _ in taken[len(sent) :]])
        return len(sent)

    def _any_due(self) -> bool:
        """Looked at ten times a second: a transaction that writes would hold SQLite's only lock for nothing."""
        with self._database.read() as session:
            return (
                session.exec(select(Outbox.id).where(*_due(self._database.now(session))).limit(1)).first() is not None
            )

    def _take(self) -> Sequence[tuple[int, Service, str]]:
        with self._database.write() as session:
            now = self._database.now(session)
            rows = session.exec(
                select(Outbox.id, Outbox.queue, Outbox.stage_id)
                .join(Stage, col(Stage.id) == col(Outbox.stage_id))
                .join(Job, col(Job.id) == col(Stage.job_id))
                .where(*_due(now))
                .order_by(col(Job.priority).desc(), col(Outbox.id))
                .limit(PAGE)
                .with_for_update(of=Outbox, skip_locked=True)
            )
            taken = [(row_id, Service(queue), stage_id) for row_id, queue, stage_id in rows if row_id is not None]
            if taken:
                mine = update(Outbox).where(col(Outbox.id).in_([row_id for row_id, _, _ in taken]))
                session.connection().execute(mine.values(taken_until=now + _SENDING_FOR))
            return taken

    def _settle(self, sent: Sequence[int], unsent: Sequence[int]) -> None:
        if not sent and not unsent:
            return
        with self._database.write() as session:
            rows = update(Outbox).where(col(Outbox.sent_at).is_(None))
            connection = session.connection()
            connection.execute(rows.where(col(Outbox.id).in_(sent)).values(sent_at=self._database.now(session)))
            connection.execute(rows.where(col(Outbox.id).in_(unsent)).values(taken_until=None))


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    free = or_(col(Outbox.taken_until).is_(None), col(Outbox.taken_until) <= now)
    return (col(Outbox.sent_at).is_(None), col(Outbox.due_at) <= now, free)
