"""The outermost layer of an HTTP service: request ids, the byte limit of bodies, metrics, a span and one log line for
each request, and the last handler of defects. It is pure ASGI, so that streams pass unbuffered.
"""

import logging
import re
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from craft.contracts.problems import Problem
from craft.errors import CraftError, DiskFull, HeaderRepeated, HostOutOfMemory, Internal, PayloadTooLarge
from craft.infra.http.problems import problem_response
from craft.infra.ids import new_id
from craft.infra.observe import telemetry
from craft.infra.process.error_mapping import error_of

_log = logging.getLogger("craft.http")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ONCE = frozenset({b"authorization", b"content-length", b"craft-team", b"host", b"idempotency-key"})
"""Headers of which two would let two programs read one request differently."""
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


OtherForm = Callable[[Scope, CraftError], Response | None]
"""An error in the format of some paths' callers; None if the format is a problem document."""


class RequestMetrics:
    """Counts and durations of requests by route, in the application's own registry."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        labels = ("service", "method", "route", "status")
        self._service = service
        self._requests = Counter("craft_http_requests", "Requests answered.", labels, registry=registry)
        self._seconds = Histogram(
            "craft_http_request_seconds", "Time until the answer was complete.", labels[:3], registry=registry
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request."""
        self._requests.labels(self._service, method, route, str(status)).inc()
        self._seconds.labels(self._service, method, route).observe(seconds)


class Edge:
    """The middleware. A body of more than `max_body_bytes` is answered with 413, whatever its Content-Length says."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: RequestMetrics,
        max_body_bytes: int,
        prefixes: Collection[str] = (),
        other_form: OtherForm = lambda _scope, _error: None,
    ) -> None:
        """`prefixes` are the prefixes of the mounted routers."""
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._prefixes = sorted(prefixes, key=len, reverse=True)
        self._other_form = other_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._max_body_bytes, self._other_form)
        with _span(scope, exchange.request_id):
            await self._observed(scope, exchange)

    async def _observed(self, scope: Scope, exchange: "_Exchange") -> None:
        began = time.perf_counter()
        try:
            await exchange.run(self._app)
        finally:
            route = self._route(scope)
            seconds = time.perf_counter() - began
            method = _method(scope)
            self._metrics.observe(method=method, route=route, status=exchange.status, seconds=seconds)
            telemetry.record_response(method=method, route=route, status=exchange.status)
            fields = {"method": scope["method"], "route": route, "status": exchange.status}
            # Polls mostly get 304, and these lines would fill the log.
            level = logging.DEBUG if route in _QUIET or exchange.status == HTTPStatus.NOT_MODIFIED else logging.INFO
            _log.log(
                level,
                "request",
                extra={**fields, "seconds": round(seconds, 4), "request_id": exchange.request_id},
            )

    def _route(self, scope: Scope) -> str:
        """The template of the path with its prefix; the framework gives the route's own path only."""
        path = getattr(scope.get("route"), "path", None)
        if path is None:
            return "unmatched"
        prefix = next((prefix for prefix in self._prefixes if scope["path"].startswith(f"{prefix}/")), "")
        return f"{prefix}{path}"


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int, other_form: OtherForm) -> None:
        self.request_id = _request_id(scope)
        self.status = 500
        self._scope = scope
        self._receive = receive
        self._send = send
        self._left = max_body_bytes
        self._limit = max_body_bytes
        self._other_form = other_form
        self._too_large = False
        self._started = False
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def run(self, app: ASGIApp) -> None:
        """Call the application; answer 413 for a body that is too large, and 500 where the application fails."""
        if _content_length(self._scope) > self._limit:
            self._too_large = True
        elif (doubled := _doubled(self._scope)) is not None:
            message = f"The header {doubled} came more than once."
            await self._answer(HeaderRepeated(message, hint="Send it once.", param=doubled))
        else:
            try:
                await app(self._scope, self._read, self._write)
            except Exception as error:
                if not self._too_large:
                    _log.exception("request_crashed", extra={"request_id": self.request_id})
                if self._started:
                    raise
                if not self._too_large:
                    await self._answer(_public_error(error))
        if self._too_large and not self._started:
            await self._answer(PayloadTooLarge(f"The body is larger than {self._limit} bytes.", hint="Send less."))

    async def _read(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._too_large = True
                # The framework turns any other exception into 400; `_write` drops its answer to this one.
                raise HTTPException(413)
        return message

    async def _write(self, message: Message) -> None:
        if self._too_large and not self._started:
            return
        await self._forward(message)

    async def _forward(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message = {
                **message,
                "headers": [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())],
            }
        await self._send(message)

    async def _answer(self, error: CraftError) -> None:
        response = self._other_form(self._scope, error)
        if response is None:
            response = problem_response(Problem.of(error, request_id=self.request_id))
        if isinstance(error, PayloadTooLarge | HeaderRepeated):
            response.headers["Connection"] = "close"
        await response(self._scope, self._receive, self._forward)


def _public_error(error: Exception) -> CraftError:
    """The error for the caller. A lack of disk or memory is named; the text of a defect stays in the log."""
    known = error_of(error)
    if isinstance(known, DiskFull | HostOutOfMemory):
        return known
    return Internal("The server met a defect of its own.", hint="Report the request_id.")


def _header(scope: Scope, name: bytes) -> bytes | None:
    headers: Any = scope.get("headers", ())
    return next((value for key, value in headers if key == name), None)


def _span(scope: Scope, request_id: str) -> AbstractContextManager[None]:
    """The request's span. Probes and scrapes have none, because they come every few seconds."""
    if scope["path"] in _QUIET:
        return nullcontext()
    given = _header(scope, b"traceparent")
    return telemetry.request_span(
        method=_method(scope), traceparent=given.decode("latin-1") if given else None, request_id=request_id
    )


def _method(scope: Scope) -> str:
    """The method, or "other": callers may invent methods, and these must not name metrics and spans."""
    return scope["method"] if scope["method"] in _METHODS else "other"


def _request_id(scope: Scope) -> str:
    """The caller's id if it is safe in logs and headers, otherwise a new one."""
    given = _header(scope, b"x-request-id")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else new_id("req")


def _doubled(scope: Scope) -> str | None:
    """The name of a header that came twice and may come once; None if there is none."""
    names = [name for name, _ in scope.get("headers", ()) if name in _ONCE]
    return next((name.decode() for position, name in enumerate(names) if name in names[:position]), None)


def _content_length(scope: Scope) -> int:
    given = _header(scope, b"content-length")
    return int(given) if given and given.isdigit() and len(given) < 20 else 0
