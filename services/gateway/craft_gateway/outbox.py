"""The relay: hints leave the outbox for the broker after the commit that made them, and stay while it is down."""

from collections.abc import Callable, Sequence

from sqlalchemy import update
from sqlmodel import col, select

from craft.contracts.stages import Service
from craft_gateway.database import Database
from craft_gateway.tables import Job, Outbox, Stage

Send = Callable[[Service, str], None]
"""Sends one hint (queue, stage id). Raises Unavailable where the broker does not answer."""

PAGE = 200


class Relay:
    """Sends each hint at least once. Doubled hints are harmless: a stage is claimed once."""

    def __init__(self, database: Database, send: Send) -> None:
        self._database = database
        self._send = send

    def send_due(self) -> int:
        """Send what is due, jobs of higher priority first; returns how many. Raises what the sender raises.

        What was sent before the broker went away is marked as sent.
        """
        sent: list[int] = []
        try:
            for row_id, queue, stage_id in self._due():
                self._send(queue, stage_id)
                sent.append(row_id)
        finally:
            self._mark(sent)
        return len(sent)

    def _due(self) -> Sequence[tuple[int, Service, str]]:
        with self._database.read() as session:
            rows = session.exec(
                select(Outbox.id, Outbox.queue, Outbox.stage_id)
                .join(Stage, col(Stage.id) == col(Outbox.stage_id))
                .join(Job, col(Job.id) == col(Stage.job_id))
                .where(col(Outbox.sent_at).is_(None), col(Outbox.due_at) <= self._database.now(session))
                .order_by(col(Job.priority).desc(), col(Outbox.id))
                .limit(PAGE)
            )
            return [(row_id, Service(queue), stage_id) for row_id, queue, stage_id in rows if row_id is not None]

    def _mark(self, sent: Sequence[int]) -> None:
        if not sent:
            return
        with self._database.write() as session:
            rows = update(Outbox).where(col(Outbox.id).in_(sent), col(Outbox.sent_at).is_(None))
            session.connection().execute(rows.values(sent_at=self._database.now(session)))
