"""Identifies the caller of every request by key or token, and limits the rate, before the body is read."""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from craft.errors import CraftError, RateLimited, Unauthenticated
from craft.infra.http.edge import OtherForm
from craft.infra.http.problems import error_response
from craft.infra.http.service_access import check_own_pages
from craft_gateway.access.identity import Identity, act_as
from craft_gateway.access.oidc import Oidc

KEY_PREFIX = "craft_sk_"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})
_REMEMBERED_SECONDS = 5.0
"""A revoked key may still work for this long."""
_MAX_REMEMBERED = 10_000
_MAX_CALLERS = 10_000
_LOOK_UPS_AT_ONCE = 4
_MAX_CREDENTIALS_CHARACTERS = 8_192
_LOCAL = Identity("local", {}, operator=True)
_OPERATOR = Identity("operator", {}, operator=True)


class KeyChecker(Protocol):
    """Identifies callers by their API keys."""

    def identify(self, key: str) -> Identity:
        """Return the identity of the key's holder. Raises Unauthenticated, Unavailable."""
        ...


class Authenticator:
    """Identifies the caller by the Authorization header.

    `keyless`: a request of this machine without an API key is the operator's.
    """

    def __init__(
        self,
        keys: KeyChecker,
        *,
        oidc: Oidc | None = None,
        operator_key: SecretStr | None = None,
        keyless: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._oidc = oidc
        self._operator_key = operator_key
        self._keyless = keyless
        self._clock = clock
        # Of their own: whatever else is slow, callers are told who they are.
        self._threads = CapacityLimiter(_LOOK_UPS_AT_ONCE)
        self._remembered: dict[bytes, tuple[Identity, float]] = {}
        """By the credentials' digest: the identity, and until when it counts."""

    async def identity(self, headers: Headers) -> Identity:
        """Return the caller's identity. Raises Unauthenticated, Unavailable."""
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        if self._keyless and not credentials.startswith(KEY_PREFIX):
            # OpenAI's clients always send some text as a key.
            _check_local(headers)
            return _LOCAL
        if kind.lower() != "bearer" or not 0 < len(credentials) <= _MAX_CREDENTIALS_CHARACTERS:
            raise Unauthenticated("This needs a key.", hint="Send it as `Authorization: Bearer craft_sk_…`.")
        digest = hashlib.sha256(credentials.encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None and self._clock() < remembered[1]:
            return remembered[0]
        identity = await run_sync(self._look_up, credentials.strip(), limiter=self._threads)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest] = (identity, self._clock() + _REMEMBERED_SECONDS)
        return identity

    def _look_up(self, credentials: str) -> Identity:
        if self._operator_key is not None and hmac.compare_digest(
            credentials.encode(), self._operator_key.get_secret_value().encode()
        ):
            return _OPERATOR
        if self._oidc is not None and credentials.count(".") == 2:
            return self._oidc.identify(credentials)
        return self._keys.identify(credentials)


class RateLimits:
    """A token bucket for each caller: it holds `burst` requests and fills at `per_second`. None is no limit."""

    def __init__(self, per_second: float | None, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request of the caller. Raises RateLimited with the seconds to wait. Call it from one thread."""
        if self._per_second is None:
            return
        now = self._clock()
        left, at = self._buckets.pop(caller, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_second)
        self._buckets[caller] = (left - 1.0 if left >= 1.0 else left, now)
        # The caller who has been silent longest has a full bucket by now, or soon.
        while len(self._buckets) > _MAX_CALLERS:
            self._buckets.popitem(last=False)
        if left < 1.0:
            raise RateLimited(
                f"More than {self._per_second:g} requests a second with one key.",
                hint="Send fewer: `GET /craft/jobs/{id}?wait=30` and the job's event stream wait for changes.",
                headers={"Retry-After": str(max(1, math.ceil((1.0 - left) / self._per_second)))},
            )


class Authentication:
    """The middleware that puts the caller's identity into `scope["state"]["identity"]`."""

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, limits: RateLimits, other_form: OtherForm
    ) -> None:
        """`other_form` renders an error for paths with a form of their own; see `create_app`."""
        self._app = app
        self._authenticator = authenticator
        self._limits = limits
        self._other_form = other_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            identity = await self._authenticator.identity(Headers(scope=scope))
            if identity is not _LOCAL:
                self._limits.take(identity.actor)
        except CraftError as error:
            await self._refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["identity"] = identity
        act_as(identity.actor)
        await self._app(scope, receive, send)

    async def _refuse(self, error: CraftError, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["state"].get("request_id")
        answer = self._other_form(scope, error) or error_response(error, request_id=request_id)
        await answer(scope, receive, send)


def _check_local(headers: Headers) -> None:
    """Refuse what a foreign website sends to the keyless server through its user's browser.

    Raises Unauthenticated.
    """
    try:
        check_own_pages(headers, local=True)
    except Unauthenticated as error:
        raise Unauthenticated(
            "Without a key this server answers this machine only.",
            hint="Call it at 127.0.0.1 or localhost, or with a key.",
        ) from error
