"""Builds every HTTP service alike: problem documents, request ids, a body limit, health, metrics and OpenAPI."""

import asyncio
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Response, params
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.middleware import Middleware

from craft.contracts.base import Contract
from craft.errors import CraftError, ErrorDetail, Unavailable
from craft.infra.http import problems
from craft.infra.http.edge import Edge, OtherForm, RequestMetrics
from craft.infra.http.head import HeadAsGet
from craft.infra.http.openapi import Describe, documented
from craft.infra.observe import telemetry

MAX_BODY_BYTES = 64 * 2**20
_READY_SECONDS = 5.0
_log = logging.getLogger("craft.http")

Ready = Callable[[], Awaitable[dict[str, bool]]]
"""Returns the names of the parts that a service needs, and whether each one answers."""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Mounted(NamedTuple):
    """A router under a prefix. Routers inside routers are avoided, because FastAPI matches them many times."""

    router: APIRouter
    prefix: str = ""
    responses: dict[int | str, dict[str, Any]] | None = None
    dependencies: Sequence[params.Depends] = ()
    include_in_schema: bool = True


class Health(Contract):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Readiness(Contract):
    """Each part that the service needs answers."""

    status: Literal["ready"] = "ready"
    checks: dict[str, bool]


def create_app(
    *,
    title: str,
    service: str,
    routers: Sequence[APIRouter | Mounted],
    ready: Ready | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    lifespan: Lifespan | None = None,
    registry: CollectorRegistry | None = None,
    inner: Sequence[Middleware] = (),
    describe: Describe | None = None,
    other_form: OtherForm = lambda _scope, _error: None,
) -> FastAPI:
    """An application with the routers and /healthz, /readyz, /metrics; its registry is `app.state.metrics`.

    `service` labels the metrics; a service with its own metrics passes their `registry`. A body of more than
    `max_body_bytes` is answered with 413. `inner` is the middleware between the edge and the routes; `describe` adds
    to the OpenAPI document. Errors of routes become problem documents; list a route's own errors with
    `responses=documented(NotFound, …)`. `other_form` gives the edge's own errors on paths with another error format.
    """
    registry = registry or CollectorRegistry()
    app = FastAPI(title=title, version=_version(), lifespan=_with_last_spans(lifespan), middleware=inner)
    app.state.metrics = registry
    problems.install(app, describe=describe)
    parts = [router if isinstance(router, Mounted) else Mounted(router) for router in routers]
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        Edge,
        metrics=RequestMetrics(registry, service),
        max_body_bytes=max_body_bytes,
        prefixes={part.prefix for part in parts if part.prefix},
        other_form=other_form,
    )
    for mounted in parts:
        app.include_router(
            mounted.router,
            prefix=mounted.prefix,
            responses=mounted.responses,
            dependencies=mounted.dependencies,
            include_in_schema=mounted.include_in_schema,
        )
    app.include_router(_operations(registry, ready))
    return app


def _with_last_spans(lifespan: Lifespan | None) -> Lifespan:
    """The service's own lifespan; at its end the remaining spans are sent."""

    @asynccontextmanager
    async def whole(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else nullcontext():
            yield
        await asyncio.to_thread(telemetry.flush)

    return whole


def _operations(registry: CollectorRegistry, ready: Ready | None) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz", operation_id="healthz", summary="Whether the process runs")
    async def healthz() -> Health:
        return Health()

    @router.get(
        "/readyz",
        operation_id="readyz",
        summary="Whether the service can do its work",
        responses=documented(Unavailable),
    )
    async def readyz() -> Readiness:
        checks = await _checked(ready)
        missing = [name for name, fine in checks.items() if not fine]
        if missing:
            raise Unavailable(
                f"Not ready: {', '.join(missing)}.",
                hint="Wait, or look at the named parts.",
                details=[ErrorDetail(message="does not answer", field=name) for name in missing],
            )
        return Readiness(checks=checks)

    # Not a coroutine, because a collector may query a database.
    @router.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=Response)
    def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


async def _checked(ready: Ready | None) -> dict[str, bool]:
    # Routes run in these threads: while all are held, the service answers nothing.
    threads = {} if await _threads_answer() else {"threads": False}
    return {**await _parts(ready), **threads}


async def _threads_answer() -> bool:
    with anyio.move_on_after(_READY_SECONDS):
        await anyio.to_thread.run_sync(_nothing)
        return True
    _log.warning("readiness_check_failed", extra={"error": "No thread became free."})
    return False


def _nothing() -> None:
    """Run in a thread, to see that one is free."""


async def _parts(ready: Ready | None) -> dict[str, bool]:
    if ready is None:
        return {}
    try:
        async with asyncio.timeout(_READY_SECONDS):
            return await ready()
    except Unavailable as error:
        _log.warning("readiness_check_failed", extra={"error": error.message})
        raise Unavailable(f"Not ready: {error.message}", hint=error.hint) from error
    except (TimeoutError, OSError, CraftError) as error:
        _log.warning("readiness_check_failed", extra={"error": str(error)})
        return {"checks": False}


def _version() -> str:
    try:
        return importlib.metadata.version("craft-rait")
    except importlib.metadata.PackageNotFoundError:
        return "0"
