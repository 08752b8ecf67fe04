"""Hints for stages whose earlier ones were taken in vain: something was missing then that is there again.

They are turns on their queues (`fair_share`): a few too many cost a claim each, and the relay sends no surplus.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, or_
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from craft.contracts.events import StageStatus
from craft.contracts.job import JobStatus
from craft.contracts.stages import Service
from craft_gateway.tables import Job, Outbox, Stage

_MOST = 500
"""On one queue: more workers than that will not be idle, and the sweep sends the rest."""


class HeldUp(NamedTuple):
    """What keeps stages from free workers: nobody has room in the artifact store, or teams are out of GPU seconds."""

    no_room: bool = False
    teams: frozenset[str] = frozenset()


def hint_next_job(session: Session, team: str, now: datetime) -> None:
    """A place of the team has become free: one more of its jobs may begin, on whatever queue the first one waits."""
    for queue in Service:
        first = _ready(queue, now).where(Stage.team == team).join(Job, col(Job.id) == col(Stage.job_id))
        first = first.where(Job.status == JobStatus.QUEUED).order_by(col(Stage.rank), col(Stage.job_id)).limit(1)
        _hint(session, queue, first, now)


def hint_ready(session: Session, now: datetime, *, teams: Collection[str] | None) -> None:
    """Hint what these teams have ready, or all teams."""
    for queue in Service:
        ready = _ready(queue, now)
        theirs = ready if teams is None else ready.where(col(Stage.team).in_(teams))
        _hint(session, queue, theirs.limit(_MOST), now)


def _ready(queue: Service, now: datetime) -> SelectOfScalar[str]:
    due = or_(col(Stage.not_before).is_(None), col(Stage.not_before) <= now)
    return select(Stage.id).where(Stage.queue == queue, Stage.status == StageStatus.READY, due)


def _hint(session: Session, queue: Service, stages: SelectOfScalar[str], now: datetime) -> None:
    hints = [{"stage_id": found, "queue": queue, "created_at": now, "due_at": now} for found in session.exec(stages)]
    if hints:
        session.connection().execute(insert(Outbox), hints)
