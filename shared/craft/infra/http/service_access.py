"""Guards the services' own ports: they are for callers with a token, and never a web page.

A page in a browser on this machine reaches loopback addresses too, also under a name of its own (DNS rebinding).
"""

import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from craft.errors import CraftError, Unauthenticated
from craft.infra.http.problems import error_response
from craft.infra.settings.addresses import is_loopback
from craft.infra.settings.listen import Listen
from craft.infra.settings.settings import Settings

METRICS = "/metrics"
_PROBES = frozenset({"/healthz", "/readyz"})
_DOCUMENTS = frozenset({"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


class ServiceAccess:
    """The middleware of a service. Probes are open to all; documents to all but foreign pages."""

    def __init__(self, app: ASGIApp, *, token: SecretStr | None, metrics_token: SecretStr | None, local: bool) -> None:
        """`token` opens all calls; with None they have checks of their own. `local`: it listens on loopback only."""
        self._app = app
        self._token = token
        self._metrics_token = metrics_token
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] not in _PROBES:
            try:
                self._check(scope)
            except CraftError as error:
                answer = error_response(error, request_id=scope.get("state", {}).get("request_id"))
                # The body is not read.
                answer.headers["Connection"] = "close"
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] == METRICS:
            check_metrics(scope, self._metrics_token)
            return
        check_own_pages(headers, local=self._local)
        if self._token is None or scope["path"] in _DOCUMENTS or has_token(headers, self._token):
            return
        raise Unauthenticated(
            "This needs the services' token.",
            hint="Send `Authorization: Bearer …` with the CRAFT_SERVICE_TOKEN of the installation; `craft up` keeps it "
            "in `service.token` below its state folder.",
        )


class MetricsAccess:
    """The middleware of a server whose other calls have checks of their own."""

    def __init__(self, app: ASGIApp, *, token: SecretStr | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] == METRICS:
            try:
                check_metrics(scope, self._token)
            except CraftError as error:
                await error_response(error, request_id=scope.get("state", {}).get("request_id"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def service_access(settings: Settings, listen: Listen) -> Sequence[Middleware]:
    """The middleware of a service whose calls need the services' token."""
    return [_access(settings, listen, settings.service_token)]


def own_checks_access(settings: Settings, listen: Listen) -> Sequence[Middleware]:
    """The middleware of a service whose routes check a token of their own."""
    return [_access(settings, listen, None)]


def _access(settings: Settings, listen: Listen, token: SecretStr | None) -> Middleware:
    local = is_loopback(listen.host)
    return Middleware(ServiceAccess, token=token, metrics_token=settings.metrics_token, local=local)


def has_token(headers: Headers, token: SecretStr) -> bool:
    """True if the request carries the token. An empty token opens nothing."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    expected = token.get_secret_value()
    return (
        bool(expected) and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected.encode())
    )


def check_metrics(scope: Scope, token: SecretStr | None) -> None:
    """Raise Unauthenticated unless the caller is on this machine, behind no proxy, or has the metrics' token."""
    headers = Headers(scope=scope)
    if token is not None and has_token(headers, token):
        return
    peer = (scope.get("client") or ("", 0))[0]
    direct = not any(name in headers for name in _FORWARDED)
    if not (direct and _is_loopback_peer(peer)):
        raise Unauthenticated(
            "Metrics are shown to this machine, and to callers with their token.",
            hint="Send `Authorization: Bearer …` with CRAFT_METRICS_TOKEN: Prometheus does by `authorization`.",
        )
    check_own_pages(headers, local=True)


def check_own_pages(headers: Headers, *, local: bool) -> None:
    """Refuse what a foreign website sends to this server through its user's browser. Raises Unauthenticated.

    `local`: the server is for this machine only, so that every other name in `Host` is a foreign one too.
    """
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site") == "cross-site"
    if origin is not None:
        foreign = foreign or not is_loopback(_host_of(origin))
    if local:
        foreign = foreign or not is_loopback(_host_of(f"//{headers.get('host') or 'localhost'}"))
    if foreign:
        raise Unauthenticated(
            "Web pages of other origins may not call this server.",
            hint="Call it at 127.0.0.1 or localhost, by a program or a page of its own.",
        )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback_peer(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
