"""Which messages are due, who sends them, and what is written down of each attempt.

Several senders may run. Who takes a message moves its `due_at` to when another one may: it is sent once at a time, and
again where its sender died. The number of the attempt is its fence: an answer that comes too late changes nothing.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, or_, update
from sqlmodel import Session, col, exists, func, select

from craft.contracts.events import EventType
from craft.contracts.public.webhooks import DeliveryStatus
from craft.infra.backoff import Jitter, exponential_backoff
from craft_gateway.access.identity import act_as
from craft_gateway.events import record
from craft_gateway.store.column_types import UtcDateTime
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Delivery, Webhook
from craft_gateway.webhooks.http_post import Answer, DeliveryOutcome

PAGE = 500
TAKEN_FOR = timedelta(seconds=60)
"""Longer than any attempt takes."""
FAILS_FOR = timedelta(days=3)
"""A webhook that failed for so long, and so often in a row, is switched off."""
FAILS_IN_A_ROW = 20
_FIRST_PAUSE_SECONDS = 5.0
_PAUSE_GROWTH = 3.0
_LONGEST_PAUSE_SECONDS = 4 * 3600.0
_SYSTEM = "system"
_random = secrets.SystemRandom()


def pause_seconds(tries: int, *, jitter: float) -> float:
    """After so many attempts that failed: 5 s, 15 s, 45 s … 4 h, a quarter more or less. `jitter` is from 0 to 1."""
    return exponential_backoff(
        tries,
        first=_FIRST_PAUSE_SECONDS,
        longest=_LONGEST_PAUSE_SECONDS,
        factor=_PAUSE_GROWTH,
        jitter=Jitter(low=0.75, high=1.25, draw=jitter),
    )


class Taken(NamedTuple):
    """An attempt to be made. `secrets` are encrypted, the newest first."""

    delivery_id: str
    attempt: int
    webhook_id: str
    host: str
    url: str
    body: str
    secrets: tuple[str, ...]


class Attempted(NamedTuple):
    """An attempt that was made."""

    taken: Taken
    answer: Answer


class Deliveries:
    """The messages of all webhooks, from the senders' side."""

    def __init__(self, database: Database, *, at_once_per_host: int, keep_days: float) -> None:
        self._database = database
        self._per_host = at_once_per_host
        self._keep = timedelta(days=keep_days)

    def take(self, *, in_flight: Mapping[str, int], most: int) -> Sequence[Taken]:
        """Begin attempts at what is due, `most` in all and few to one host, those `in_flight` counted in.

        A webhook whose last attempt failed has one at a time: however much waits for it, it holds up no other.
        """
        wanted = self._wanted(in_flight, most)
        if not wanted:
            return ()
        with self._database.write() as session:
            now = self._database.now(session)
            hooks = session.exec(select(Webhook).where(col(Webhook.id).in_(wanted), col(Webhook.active))).all()
            return [taken for hook in hooks for taken in _begun(session, now, hook, wanted[hook.id])]

    def settle(self, made: Sequence[Attempted]) -> None:
        """Write down what came of attempts. One that is not the message's last changes nothing."""
        act_as(_SYSTEM)
        with self._database.write() as session:
            now = self._database.now(session)
            # Webhooks before messages, each in order: whoever else locks several does so too.
            ids = {each.taken.webhook_id for each in made}
            hooks = {
                hook.id: hook
                for hook in session.exec(
                    select(Webhook).where(col(Webhook.id).in_(ids)).order_by(col(Webhook.id)).with_for_update()
                )
            }
            for each in sorted(made, key=lambda one: one.taken.delivery_id):
                row = session.get(Delivery, each.taken.delivery_id, with_for_update=True)
                if row is None or row.attempts != each.taken.attempt or row.ended_at is not None:
                    continue
                _write_down(row, each.answer, now)
                if (hook := hooks.get(each.taken.webhook_id)) is not None:
                    _judge(session, now, hook, each.answer)

    def sweep(self) -> bool:
        """End what waits for webhooks that are off or gone, and forget what ended days ago; whether there is more."""
        with self._database.write() as session:
            now = self._database.now(session)
            on = exists().where(col(Webhook.id) == col(Delivery.webhook_id), col(Webhook.active))
            free = or_(col(Delivery.leased_until).is_(None), col(Delivery.leased_until) <= now)
            vain = _page(session, col(Delivery.ended_at).is_(None), free, ~on)
            old = _page(session, col(Delivery.ended_at) < now - self._keep)
            connection = session.connection()
            ended = {"status": DeliveryStatus.FAILED, "ended_at": now, "error": "The webhook is off."}
            if vain:
                connection.execute(update(Delivery).where(col(Delivery.id).in_(vain)).values(**ended))
            if old:
                connection.execute(delete(Delivery).where(col(Delivery.id).in_(old)))
        return PAGE in (len(vain), len(old))

    def _wanted(self, in_flight: Mapping[str, int], most: int) -> dict[str, int]:
        """By webhook how many to take. One step along an index for each webhook, however many messages wait."""
        with self._database.read() as session:
            if session.exec(select(Delivery.id).where(col(Delivery.ended_at).is_(None)).limit(1)).first() is None:
                return {}
            now = self._database.now(session)
            first = (
                select(func.min(Delivery.due_at, type_=UtcDateTime()))
                .where(col(Delivery.webhook_id) == col(Webhook.id), col(Delivery.ended_at).is_(None))
                .scalar_subquery()
            )
            rows = session.exec(
                select(Webhook.id, Webhook.host, Webhook.failures)
                .where(col(Webhook.active), first <= now)
                .order_by(first)
            ).all()
        busy = dict(in_flight)
        wanted: dict[str, int] = {}
        for webhook_id, host, failures in rows:
            room = (1 if failures else self._per_host) - busy.get(host, 0)
            count = min(room, most - sum(wanted.values()))
            if count > 0:
                wanted[webhook_id] = count
                busy[host] = busy.get(host, 0) + count
        return wanted


def _begun(session: Session, now: datetime, hook: Webhook, most: int) -> Sequence[Taken]:
    secrets_ = [hook.secret]
    if hook.old_secret is not None and hook.old_secret_until is not None and hook.old_secret_until > now:
        secrets_.append(hook.old_secret)
    rows = session.exec(
        select(Delivery)
        .where(Delivery.webhook_id == hook.id, col(Delivery.ended_at).is_(None), Delivery.due_at <= now)
        .order_by(col(Delivery.due_at))
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        row.attempts += 1
        row.tries += 1
        row.attempted_at = now
        row.due_at = row.leased_until = now + TAKEN_FOR
    return [Taken(row.id, row.attempts, hook.id, hook.host, hook.url, row.body, tuple(secrets_)) for row in rows]


def _write_down(row: Delivery, answer: Answer, now: datetime) -> None:
    row.leased_until = None
    row.response_status, row.response_body, row.error = answer.status, answer.excerpt, answer.error
    if answer.outcome is DeliveryOutcome.DELIVERED:
        row.status, row.ended_at = DeliveryStatus.DELIVERED, now
        return
    pause = max(pause_seconds(row.tries, jitter=_random.random()), answer.pause_seconds)
    row.due_at = now + timedelta(seconds=pause)
    if answer.outcome is DeliveryOutcome.GONE or row.due_at > row.give_up_at:
        row.status, row.ended_at = DeliveryStatus.FAILED, now


def _judge(session: Session, now: datetime, hook: Webhook, answer: Answer) -> None:
    """Count the webhook's failures in a row, and switch it off where nobody can be there any longer."""
    if answer.outcome is DeliveryOutcome.DELIVERED:
        hook.failures, hook.failing_since, hook.last_delivered_at = 0, None, now
        return
    hook.failures += 1
    hook.failing_since = hook.failing_since or now
    gone = answer.outcome is DeliveryOutcome.GONE
    if not hook.active or not (gone or _hopeless(hook, now)):
        return
    days = (now - hook.failing_since).days
    hook.active = False
    hook.inactive_reason = (
        "the receiver answered 410 (gone)"
        if gone
        else f"every attempt failed for {days} days; the last: {answer.error}"
    )
    record(session, now, hook.team, hook.id, EventType.WEBHOOK_DISABLED, host=hook.host, reason=hook.inactive_reason)


def _hopeless(hook: Webhook, now: datetime) -> bool:
    since = hook.failing_since
    return since is not None and now - since >= FAILS_FOR and hook.failures >= FAILS_IN_A_ROW


def _page(session: Session, *which: object) -> Sequence[str]:
    query = select(Delivery.id).where(*which).limit(PAGE)  # type: ignore[arg-type]  # conditions of SQLAlchemy
    return session.exec(query.with_for_update(of=Delivery, skip_locked=True)).all()
