"""The event table as a record of who did what: events of teams, keys and datasets, and the page that shows all."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, tuple_
from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.errors import RequestInvalid
from craft_gateway.callers import current_actor
from craft_gateway.database import Database
from craft_gateway.tables import Event
from craft_gateway.webhook_outbox import announce

_ORDER = (col(Event.created_at), col(Event.subject), col(Event.seq))


def record(session: Session, now: datetime, team: str, subject: str, type_: EventType, **data: object) -> None:
    """Write the next event of what is no job. Its row must be locked or new, so that the numbers have no gaps."""
    last = session.exec(select(func.max(Event.seq)).where(Event.subject == subject)).one()
    event = Event(
        subject=subject,
        seq=(last or 0) + 1,
        team=team,
        actor=current_actor(),
        type=type_,
        data=data,
        created_at=now,
    )
    session.add(event)
    announce(session, event)


def audit_page(database: Database, team: str, *, limit: int, after: str | None, subject: str | None) -> Sequence[Event]:
    """A team's events that somebody caused, newest first, one more than `limit` where there are more.

    Raises RequestInvalid where `after` names none of them.
    """
    query = select(Event).where(Event.team == team, col(Event.actor).is_not(None))
    if subject is not None:
        query = query.where(Event.subject == subject)
    with database.read() as session:
        if after is not None:
            last = _named(session, team, after)
            query = query.where(tuple_(*_ORDER) < tuple_(last.created_at, last.subject, last.seq))
        return session.exec(query.order_by(*(column.desc() for column in _ORDER)).limit(limit + 1)).all()


def entry_id(event: Event) -> str:
    """How pages name it."""
    return f"{event.subject}.{event.seq}"


def _named(session: Session, team: str, entry: str) -> Event:
    subject, _, number = entry.rpartition(".")
    seq = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    found = session.get(Event, (subject, seq))
    if found is None or found.team != team:
        raise RequestInvalid("There is no such entry.", hint="Give the `last_id` of the page before.", param="after")
    return found
