"""API keys: `craft_sk_`, the key's id and 256 random bits. The database holds only their SHA-256."""

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import col, select

from craft.contracts.events import EventType
from craft.contracts.public.accounts import KEY_ID, SCOPES_OF, KeyRequest, Scope
from craft.errors import Forbidden, RequestInvalid, Unauthenticated, Unavailable
from craft.infra.ids import new_id
from craft_gateway.access.authentication import KEY_PREFIX
from craft_gateway.access.identity import Caller, Identity
from craft_gateway.access.owners import no_key
from craft_gateway.events import record
from craft_gateway.store.database import Database
from craft_gateway.store.paging import ListPage, read_page
from craft_gateway.store.tables import ApiKey

_ID_PREFIX = "ckey_"
_KEY = re.compile(rf"{KEY_PREFIX}([0-9a-hjkmnp-tv-z]{{26}})_([A-Za-z0-9_-]{{43}})")
_SECRET_BYTES = 32
_USE_RECORDED_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key. The server shows `key` once and stores it nowhere."""

    row: ApiKey
    key: str


class ApiKeys:
    """The keys of all teams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, request: KeyRequest, caller: Caller) -> NewKey:
        """Create a key of the caller's team. Raises Forbidden if it would have scopes that the caller lacks."""
        scopes = _scopes(request)
        beyond = sorted(scope.value for scope in scopes - caller.scopes)
        if beyond:
            raise Forbidden(
                f"You do not have {', '.join(beyond)} yourself.", hint="Ask for fewer scopes, or another role."
            )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._database.write() as session:
            now = self._database.now(session)
            row = ApiKey(
                id=new_id("ckey"),
                team=caller.team,
                name=request.name,
                role=request.role,
                scopes=sorted(scope.value for scope in scopes),
                secret_hash=_hash(secret),
                created_by=caller.actor,
                created_at=now,
                expires_at=None if request.expires_in_days is None else now + timedelta(days=request.expires_in_days),
            )
            session.add(row)
            record(session, now, row.team, row.id, EventType.KEY_CREATED, name=row.name, role=row.role.value)
        return NewKey(row, f"{KEY_PREFIX}{row.id.removeprefix(_ID_PREFIX)}_{secret}")

    def identify(self, key: str) -> Identity:
        """Return the identity of the key's holder. Raises Unauthenticated, which does not say what is wrong."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise _refused()
        with self._database.read() as session:
            row = session.get(ApiKey, f"{_ID_PREFIX}{match[1]}")
            now = self._database.now(session)
        # An unknown id goes through the same comparison, so that the time reveals nothing.
        matches = hmac.compare_digest(_hash(match[2]), row.secret_hash if row else _hash(""))
        if row is None or not matches or not usable(row, now):
            raise _refused()
        if row.last_used_at is None or now - row.last_used_at >= _USE_RECORDED_EVERY:
            with suppress(Unavailable):
                self._record_use(row.id, now)
        return Identity(actor=row.id, grants={row.team: frozenset(Scope(scope) for scope in row.scopes)})

    def listed(self, team: str, *, limit: int, after: str | None) -> ListPage[ApiKey]:
        """Return a page of a team's keys, newest first."""
        query = select(ApiKey).where(ApiKey.team == team).order_by(col(ApiKey.id).desc())
        if after is not None:
            query = query.where(col(ApiKey.id) < after)
        with self._database.read() as session:
            return read_page(session, query, limit)

    def find(self, key_id: str) -> ApiKey:
        """Return one key. Raises NotFound."""
        with self._database.read() as session:
            row = session.get(ApiKey, key_id) if re.fullmatch(KEY_ID, key_id) else None
        if row is None:
            raise no_key()
        return row

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; a repeated call changes nothing. Caches may accept it for some seconds. Raises NotFound."""
        self.find(key_id)
        with self._database.write() as session:
            row = session.get_one(ApiKey, key_id, with_for_update=True)
            if row.revoked_at is None:
                row.revoked_at = self._database.now(session)
                session.add(row)
                record(session, row.revoked_at, row.team, row.id, EventType.KEY_REVOKED, name=row.name)
        return row

    def _record_use(self, key_id: str, now: datetime) -> None:
        with self._database.write() as session:
            session.get_one(ApiKey, key_id).last_used_at = now


def usable(row: ApiKey, now: datetime) -> bool:
    """Return whether the key is neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or now < row.expires_at)


def _scopes(request: KeyRequest) -> frozenset[Scope]:
    of_role = SCOPES_OF[request.role]
    if request.scopes is None:
        return of_role
    beyond = [scope.value for scope in request.scopes if scope not in of_role]
    if beyond:
        raise RequestInvalid(
            f"The role {request.role.value} has no {', '.join(beyond)}.",
            hint=f"It has {', '.join(sorted(of_role))}.",
            param="scopes",
        )
    return frozenset(request.scopes)


def _hash(secret: str) -> str:
    # A fast hash is enough: 256 random bits cannot be guessed.
    return hashlib.sha256(secret.encode()).hexdigest()


def _refused() -> Unauthenticated:
    return Unauthenticated(
        "The key is not valid.", hint="It may have expired or been revoked; an admin of the team creates another."
    )
