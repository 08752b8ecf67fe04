"""Reads the audit: the events of a team that a person or a pipeline caused."""

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from craft.errors import RequestInvalid
from craft_gateway.store.database import Database
from craft_gateway.store.paging import ListPage, read_page
from craft_gateway.store.tables import Event

_ORDER = (col(Event.created_at), col(Event.subject), col(Event.seq))


def audit_page(database: Database, team: str, *, limit: int, after: str | None, subject: str | None) -> ListPage[Event]:
    """Return a page of a team's events that have an actor, newest first.

    Raises RequestInvalid if `after` is no entry of the team.
    """
    query = select(Event).where(Event.team == team, col(Event.actor).is_not(None))
    if subject is not None:
        query = query.where(Event.subject == subject)
    with database.read() as session:
        if after is not None:
            last = _entry(session, team, after)
            query = query.where(tuple_(*_ORDER) < tuple_(last.created_at, last.subject, last.seq))
        return read_page(session, query.order_by(*(column.desc() for column in _ORDER)), limit)


def entry_id(event: Event) -> str:
    """Return the id of the audit entry that shows the event."""
    return f"{event.subject}.{event.seq}"


def _entry(session: Session, team: str, entry: str) -> Event:
    subject, _, number = entry.rpartition(".")
    seq = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    event = session.get(Event, (subject, seq))
    if event is None or event.team != team:
        raise RequestInvalid("There is no such entry.", hint="Give the `last_id` of the page before.", param="after")
    return event
