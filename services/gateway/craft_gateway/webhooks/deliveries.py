"""Leases due messages to senders, and records the result of each attempt.

Several senders may run. A lease moves the message's `due_at` to its own end: a message is sent by one sender at a time,
and again where its sender died. The number of the attempt is its fence: a result that comes too late changes nothing.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextvars import copy_context
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
LEASE = timedelta(seconds=60)
"""Longer than any attempt takes."""
DISABLED_AFTER = timedelta(days=3)
DISABLED_AFTER_FAILURES = 20
"""A webhook is switched off that failed for so long, and so often in a row."""
_FIRST_PAUSE_SECONDS = 5.0
_PAUSE_GROWTH = 3.0
_MAX_PAUSE_SECONDS = 4 * 3600.0
_SYSTEM = "system"
_random = secrets.SystemRandom()


def pause_seconds(tries: int, *, jitter: float) -> float:
    """The pause after so many failed attempts: 5 s, 15 s, 45 s … 4 h, a quarter more or less. `jitter`: from 0 to 1."""
    return exponential_backoff(
        tries,
        first=_FIRST_PAUSE_SECONDS,
        longest=_MAX_PAUSE_SECONDS,
        factor=_PAUSE_GROWTH,
        jitter=Jitter(low=0.75, high=1.25, draw=jitter),
    )


class LeasedDelivery(NamedTuple):
    """A message with the attempt that its sender is to make. `secrets` are encrypted, the newest first."""

    delivery_id: str
    attempt: int
    webhook_id: str
    host: str
    url: str
    body: str
    secrets: tuple[str, ...]


class DeliveryResult(NamedTuple):
    """An attempt that was made, and its answer."""

    delivery: LeasedDelivery
    answer: Answer


class Deliveries:
    """The messages of all webhooks, for the senders."""

    def __init__(self, database: Database, *, at_once_per_host: int, keep_days: float) -> None:
        self._database = database
        self._per_host = at_once_per_host
        self._keep = timedelta(days=keep_days)

    def lease(self, *, in_flight: Mapping[str, int], most: int) -> Sequence[LeasedDelivery]:
        """Lease due messages: `most` in all and few to one host, where those `in_flight` count too.

        A webhook whose last attempt failed has one at a time, so that it delays no other, however much waits for it.
        """
        counts = self._counts(in_flight, most)
        if not counts:
            return ()
        with self._database.write() as session:
            now = self._database.now(session)
            hooks = session.exec(select(Webhook).where(col(Webhook.id).in_(counts), col(Webhook.active))).all()
            return [leased for hook in hooks for leased in _lease_due(session, now, hook, counts[hook.id])]

    def settle(self, results: Sequence[DeliveryResult]) -> None:
        """Record the results of attempts. An attempt that is not the message's last changes nothing."""
        # In a context of its own: afterwards the caller does not act for the system.
        copy_context().run(self._settle, results)

    def _settle(self, results: Sequence[DeliveryResult]) -> None:
        act_as(_SYSTEM)
        with self._database.write() as session:
            now = self._database.now(session)
            # Webhooks before messages, each in order: all transactions that lock several do so.
            ids = {result.delivery.webhook_id for result in results}
            hooks = {
                hook.id: hook
                for hook in session.exec(
                    select(Webhook).where(col(Webhook.id).in_(ids)).order_by(col(Webhook.id)).with_for_update()
                )
            }
            for leased, answer in sorted(results, key=lambda result: result.delivery.delivery_id):
                row = session.get(Delivery, leased.delivery_id, with_for_update=True)
                if row is None or row.attempts != leased.attempt or row.ended_at is not None:
                    continue
                _record_answer(row, answer, now)
                if (hook := hooks.get(leased.webhook_id)) is not None:
                    _count_failures(session, now, hook, answer)

    def clean_up(self) -> bool:
        """End messages to webhooks that are off or gone, and delete those that ended days ago. True if more wait."""
        with self._database.write() as session:
            now = self._database.now(session)
            on = exists().where(col(Webhook.id) == col(Delivery.webhook_id), col(Webhook.active))
            free = or_(col(Delivery.leased_until).is_(None), col(Delivery.leased_until) <= now)
            undeliverable = _page(session, col(Delivery.ended_at).is_(None), free, ~on)
            old = _page(session, col(Delivery.ended_at) < now - self._keep)
            connection = session.connection()
            ended = {"status": DeliveryStatus.FAILED, "ended_at": now, "error": "The webhook is off."}
            if undeliverable:
                connection.execute(update(Delivery).where(col(Delivery.id).in_(undeliverable)).values(**ended))
            if old:
                connection.execute(delete(Delivery).where(col(Delivery.id).in_(old)))
        return PAGE in (len(undeliverable), len(old))

    def _counts(self, in_flight: Mapping[str, int], most: int) -> dict[str, int]:
        """The number of messages to lease, by webhook. One step along an index for each, however many messages wait."""
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
        counts: dict[str, int] = {}
        for webhook_id, host, failures in rows:
            free = (1 if failures else self._per_host) - busy.get(host, 0)
            count = min(free, most - sum(counts.values()))
            if count > 0:
                counts[webhook_id] = count
                busy[host] = busy.get(host, 0) + count
        return counts


def _lease_due(session: Session, now: datetime, hook: Webhook, most: int) -> Sequence[LeasedDelivery]:
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
        row.due_at = row.leased_until = now + LEASE
    return [
        LeasedDelivery(row.id, row.attempts, hook.id, hook.host, hook.url, row.body, tuple(secrets_)) for row in rows
    ]


def _record_answer(row: Delivery, answer: Answer, now: datetime) -> None:
    row.leased_until = None
    row.response_status, row.response_body, row.error = answer.status, answer.excerpt, answer.error
    if answer.outcome is DeliveryOutcome.DELIVERED:
        row.status, row.ended_at = DeliveryStatus.DELIVERED, now
        return
    pause = max(pause_seconds(row.tries, jitter=_random.random()), answer.pause_seconds)
    row.due_at = now + timedelta(seconds=pause)
    if answer.outcome is DeliveryOutcome.GONE or row.due_at > row.give_up_at:
        row.status, row.ended_at = DeliveryStatus.FAILED, now


def _count_failures(session: Session, now: datetime, hook: Webhook, answer: Answer) -> None:
    """Count the webhook's failures in a row, and switch it off where its receiver is gone for good."""
    if answer.outcome is DeliveryOutcome.DELIVERED:
        hook.failures, hook.failing_since, hook.last_delivered_at = 0, None, now
        return
    hook.failures += 1
    hook.failing_since = hook.failing_since or now
    gone = answer.outcome is DeliveryOutcome.GONE
    if not hook.active or not (gone or _failed_too_long(hook, now)):
        return
    days = (now - hook.failing_since).days
    hook.active = False
    hook.inactive_reason = (
        "the receiver answered 410 (gone)"
        if gone
        else f"every attempt failed for {days} days; the last: {answer.error}"
    )
    record(session, now, hook.team, hook.id, EventType.WEBHOOK_DISABLED, host=hook.host, reason=hook.inactive_reason)


def _failed_too_long(hook: Webhook, now: datetime) -> bool:
    since = hook.failing_since
    return since is not None and now - since >= DISABLED_AFTER and hook.failures >= DISABLED_AFTER_FAILURES


def _page(session: Session, *which: object) -> Sequence[str]:
    query = select(Delivery.id).where(*which).limit(PAGE)  # type: ignore[arg-type]  # conditions of SQLAlchemy
    return session.exec(query.with_for_update(of=Delivery, skip_locked=True)).all()
