"""Writes an event and queues its webhook messages, in one transaction."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, insert
from sqlmodel import Session, col, select

from craft.contracts.base import rfc3339
from craft.contracts.events import EventType
from craft.contracts.public.webhooks import DeliveryStatus, wants
from craft.infra.ids import new_id
from craft_gateway.access.identity import current_actor
from craft_gateway.store.tables import Delivery, Event, Webhook

DELIVERY_LIFETIME = timedelta(days=1)
"""A message is given up so long after it was queued."""


def announce(session: Session, event: Event) -> None:
    """Queue a message to each of the team's webhooks that subscribe to the event. One look-up in each transaction."""
    hooks = [webhook_id for webhook_id, types in _hooks(session, event.team) if wants(types, event.type.value)]
    if not hooks:
        return
    data = {"subject": event.subject, "seq": event.seq, "team": event.team, "details": event.data}
    body = message(event.type.value, event.created_at, data)
    deliveries = [new_delivery(webhook_id, event.type.value, body, event.created_at) for webhook_id in hooks]
    session.connection().execute(insert(Delivery), [row.model_dump() for row in deliveries])


def _hooks(session: Session, team: str) -> Sequence[tuple[str, list[str]]]:
    known: dict[str, Sequence[tuple[str, list[str]]]] = session.info.setdefault("webhooks", {})
    if team not in known:
        # The connection, not the session: a query of the session would first flush all pending rows.
        query = select(Webhook.id, Webhook.types).where(col(Webhook.team) == team, col(Webhook.active))
        known[team] = [(row[0], row[1]) for row in session.connection().execute(query)]
    return known[team]


def new_delivery(webhook_id: str, type_: str, body: str, now: datetime) -> Delivery:
    """Return a delivery of a message that is due now."""
    return Delivery(
        id=new_id("dlvr"),
        webhook_id=webhook_id,
        type=type_,
        body=body,
        status=DeliveryStatus.PENDING,
        due_at=now,
        give_up_at=now + DELIVERY_LIFETIME,
        created_at=now,
    )


def message(type_: str, moment: datetime, data: Mapping[str, object]) -> str:
    """Return a message's body in the form of Standard Webhooks, escaped to ASCII.

    The escapes let a NUL and half a surrogate pair pass.
    """
    document = {"type": type_, "timestamp": rfc3339(moment), "data": _finite(data)}
    return json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _finite(value: object) -> object:
    """Replace NaN and infinities, which JSON lacks, by null, as in every other answer."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def record(session: Session, now: datetime, team: str, subject: str, type_: EventType, **data: object) -> None:
    """Write the next event of a subject that is not a job.

    The subject's row must be locked or new, so that the numbers have no gaps.
    """
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
