"""Creates, changes and deletes a team's webhooks, with the secrets that sign their messages."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import httpx
from sqlalchemy import func
from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.public.accounts import Scope
from craft.contracts.public.webhooks import (
    MAX_WEBHOOKS,
    SECRET_LASTS_HOURS,
    WEBHOOK_ID,
    WebhookChange,
    WebhookRequest,
    about_accounts,
)
from craft.errors import Conflict, RequestInvalid
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.ids import new_id
from craft_gateway.access.identity import Caller
from craft_gateway.access.owners import no_webhook
from craft_gateway.events import record
from craft_gateway.store.database import Database, lock_key
from craft_gateway.store.paging import ListPage, read_page
from craft_gateway.store.tables import Webhook
from craft_gateway.webhooks.secrets import SecretBox, new_secret

_OFF = "switched off by request"


class NewSecret(NamedTuple):
    """A webhook with its new secret, which is shown this once."""

    row: Webhook
    secret: str


class Webhooks:
    """The webhooks of all teams."""

    def __init__(self, database: Database, *, policy: OutboundPolicy, box: SecretBox) -> None:
        self._database = database
        self._policy = policy
        self._box = box

    def create(self, request: WebhookRequest, caller: Caller) -> NewSecret:
        """Create a webhook of the caller's team. Raises RequestInvalid, Forbidden, Conflict, Unavailable."""
        _check_types(request.types, caller)
        host = self._host(request.url)
        secret = new_secret()
        locked = self._box.lock(secret)
        with self._database.write() as session:
            lock_key(session, f"webhooks of {caller.team}")
            now = self._database.now(session)
            count = session.exec(select(func.count()).select_from(Webhook).where(Webhook.team == caller.team)).one()
            if count >= MAX_WEBHOOKS:
                raise Conflict(f"The team has {count} webhooks already.", hint="Delete one that is not needed.")
            row = Webhook(
                id=new_id("hook"),
                team=caller.team,
                name=request.name,
                url=request.url,
                host=host,
                types=list(request.types),
                secret=locked,
                created_by=caller.actor,
                created_at=now,
            )
            session.add(row)
            # Only the host: the rest of the address may hold a token.
            record(session, now, row.team, row.id, EventType.WEBHOOK_CREATED, host=host, types=row.types)
        return NewSecret(row, secret)

    def listed(self, team: str, *, limit: int, after: str | None) -> ListPage[Webhook]:
        """A page of a team's webhooks, newest first."""
        query = select(Webhook).where(Webhook.team == team).order_by(col(Webhook.id).desc())
        if after is not None:
            query = query.where(col(Webhook.id) < after)
        with self._database.read() as session:
            return read_page(session, query, limit)

    def find(self, webhook_id: str) -> Webhook:
        """One webhook. Raises NotFound."""
        with self._database.read() as session:
            row = session.get(Webhook, webhook_id) if re.fullmatch(WEBHOOK_ID, webhook_id) else None
        if row is None:
            raise no_webhook()
        return row

    def change(self, webhook_id: str, change: WebhookChange, caller: Caller) -> Webhook:
        """Switch it on or off, or choose other events. Raises NotFound, Forbidden, RequestInvalid."""
        if not change.model_fields_set:
            raise RequestInvalid("Nothing is to be changed.", hint="Give active, types or name.")
        _check_types(change.types or (), caller)
        with self._locked(webhook_id) as (session, now, row):
            if change.active is not None and change.active != row.active:
                row.active = change.active
                row.inactive_reason = None if change.active else _OFF
                row.failures, row.failing_since = 0, None
            if change.types is not None:
                row.types = list(change.types)
            if "name" in change.model_fields_set:
                row.name = change.name
            record(session, now, row.team, row.id, EventType.WEBHOOK_CHANGED, active=row.active, types=row.types)
        return row

    def rotate(self, webhook_id: str) -> NewSecret:
        """Make a new secret; the old one signs too for a day. Raises NotFound, Unavailable."""
        secret = new_secret()
        locked = self._box.lock(secret)
        with self._locked(webhook_id) as (session, now, row):
            row.old_secret, row.secret = row.secret, locked
            row.old_secret_until = now + timedelta(hours=SECRET_LASTS_HOURS)
            record(session, now, row.team, row.id, EventType.WEBHOOK_ROTATED)
        return NewSecret(row, secret)

    def delete(self, webhook_id: str) -> None:
        """Send nothing more to it; its deliveries are deleted by the next clean-ups. Raises NotFound."""
        with self._locked(webhook_id) as (session, now, row):
            record(session, now, row.team, row.id, EventType.WEBHOOK_DELETED, host=row.host)
            session.delete(row)

    def _host(self, url: str) -> str:
        try:
            self._policy.check_form(url)
        except RequestInvalid as error:
            raise RequestInvalid(error.message, hint=error.hint, param="url") from None
        host = httpx.URL(url).host
        if len(host) > 253:
            raise RequestInvalid("The host's name is too long.", hint="Names have 253 characters at most.", param="url")
        return host

    @contextmanager
    def _locked(self, webhook_id: str) -> Iterator[tuple[Session, datetime, Webhook]]:
        with self._database.write() as session:
            row = None
            if re.fullmatch(WEBHOOK_ID, webhook_id):
                row = session.get(Webhook, webhook_id, with_for_update=True)
            if row is None:
                raise no_webhook()
            yield session, self._database.now(session), row


def _check_types(types: Sequence[str], caller: Caller) -> None:
    if about_accounts(types):
        caller.require(Scope.TEAM_READ)
