"""The coordinator process: workers' calls over HTTP, and the loops that relay hints, reap leases and sweep."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from craft.errors import CraftError
from craft.infra import log, telemetry
from craft.infra.addresses import is_loopback
from craft.infra.artifacts import FolderStore
from craft.infra.broker import CeleryQueues, celery_app
from craft.infra.http import create_app, serve
from craft.infra.outbound import OutboundGuard
from craft.infra.room import Room
from craft.infra.settings import PublishingSettings, Settings
from craft.infra.swept_store import SweptFolders
from craft_gateway import migrate
from craft_gateway.database import Database
from craft_gateway.internal_routes import internal_router
from craft_gateway.keys import HoldsArtifact, store_holds
from craft_gateway.metrics import StageMetrics, WebhookMetrics
from craft_gateway.metrics_calls import CountedCalls, CountedUpkeep
from craft_gateway.metrics_database import DatabaseMetrics
from craft_gateway.outbox import PAGE as RELAY_PAGE
from craft_gateway.outbox import HintQueues, Relay
from craft_gateway.publications_loop import Publishing
from craft_gateway.publishers import Publisher
from craft_gateway.publishing_mlflow import MlflowPublisher
from craft_gateway.retention import Retention
from craft_gateway.transitions import Transitions
from craft_gateway.transitions_upkeep import PAGE, Upkeep
from craft_gateway.webhook_courier import Courier
from craft_gateway.webhook_courier import running as courier_running
from craft_gateway.webhook_deliveries import Deliveries
from craft_gateway.webhook_post import HttpPost
from craft_gateway.webhook_secrets import secret_box

Pause = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

_RELAY_SECONDS = 0.1
_TROUBLE_SECONDS = 1.0
_FORGET_SECONDS = 60.0
_PUBLISHING_SECONDS = 1.0
_log = logging.getLogger("craft.coordinator")


@dataclass(frozen=True, slots=True)
class Loop:
    """Something to do again and again. `step` returns whether more is waiting; it may block and may raise."""

    name: str
    step: Callable[[], bool]
    idle_seconds: float


def loops(
    relay: Relay,
    upkeep: Upkeep,
    retention: Retention,
    deliveries: Deliveries,
    publishing: Publishing,
    settings: Settings,
) -> tuple[Loop, ...]:
    """The coordinator's loops. Each stands alone: a broker that is down does not stop the reaper."""
    sweep_seconds = settings.coordinator.sweep_seconds
    return (
        Loop("relay", lambda: relay.send_due() >= RELAY_PAGE, _RELAY_SECONDS),
        Loop("reaper", lambda: upkeep.reap() >= PAGE, sweep_seconds),
        Loop("sweeper", _after(upkeep.begin, lambda: upkeep.sweep().hinted >= PAGE), sweep_seconds),
        Loop("retention", retention.sweep, settings.retention.sweep_seconds),
        Loop("webhooks", deliveries.sweep, _FORGET_SECONDS),
        Loop("publishing", publishing.step, _PUBLISHING_SECONDS),
    )


def _after(first: Callable[[], None], step: Callable[[], bool]) -> Callable[[], bool]:
    """`step`, and before it `first` until that has been done once."""
    ahead = [first]

    def both() -> bool:
        if ahead:
            ahead[0]()
            ahead.clear()
        return step()

    return both


def publishers(settings: PublishingSettings) -> Mapping[str, Publisher]:
    """The places that this installation is connected to, by kind."""
    found: dict[str, Publisher] = {}
    if settings.mlflow is not None:
        found["mlflow"] = MlflowPublisher(settings.mlflow, timeout_seconds=settings.timeout_seconds)
    if settings.hub is not None:
        # Its client is loaded only where there is a hub to talk to.
        from craft_gateway.publishing_hub import HubPublisher

        found["hub"] = HubPublisher(settings.hub)
    return found


async def run_loop(loop: Loop, *, pause: Pause = asyncio.sleep) -> None:
    """Run the loop for ever. Whatever fails is tried again a little later; trouble is logged once, and its end."""
    troubled = False
    while True:
        try:
            more = await asyncio.to_thread(loop.step)
        # The edge of the process: no defect in one step may end the reaping of leases.
        except Exception as error:
            if not troubled:
                trace = None if isinstance(error, CraftError) else error
                _log.warning("loop_in_trouble", extra={"loop": loop.name, "error": str(error)[:300]}, exc_info=trace)
            troubled = True
            await pause(_TROUBLE_SECONDS)
            continue
        if troubled:
            _log.info("loop_recovered", extra={"loop": loop.name})
            troubled = False
        if not more:
            await pause(loop.idle_seconds)


def coordinator_app(
    database: Database, *, holds: HoldsArtifact, queues: HintQueues, settings: Settings, pause: Pause = asyncio.sleep
) -> FastAPI:
    """The application with its loops, which run as long as it does. Closes the database at its end."""
    room = Room(settings.resolved_artifacts_dir, min_free_bytes=settings.coordinator.min_free_bytes)
    transitions = Transitions(database, holds=holds, settings=settings.coordinator, has_room=room)
    registry = CollectorRegistry()
    registry.register(DatabaseMetrics(database, settings.resolved_artifacts_dir))
    metrics = StageMetrics(registry)
    calls = CountedCalls(transitions, database, metrics)
    upkeep = CountedUpkeep(database, transitions, settings=settings.coordinator, metrics=metrics)
    retention = Retention(database, SweptFolders(settings.resolved_artifacts_dir), settings.retention)
    deliveries = Deliveries(
        database,
        at_once_per_host=settings.webhooks.at_once_per_host,
        keep_days=settings.webhooks.keep_days,
    )
    store = FolderStore(settings.resolved_artifacts_dir)
    publishing = Publishing(database, store, publishers(settings.publishing), settings.publishing)
    running = loops(Relay(database, queues), upkeep, retention, deliveries, publishing, settings)
    webhook_metrics = WebhookMetrics(registry)

    def courier() -> Courier:
        post = HttpPost(OutboundGuard(settings.outbound.allowed_hosts))
        return Courier(deliveries, post, secret_box(settings), count=webhook_metrics.attempted)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI's signature
        tasks = [asyncio.create_task(run_loop(loop, pause=pause), name=loop.name) for loop in running]
        try:
            async with courier_running(courier):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            database.close()

    async def ready() -> dict[str, bool]:
        return {"database": await asyncio.to_thread(migrate.is_current, database)}

    return create_app(
        title="CRaFT coordinator",
        service="coordinator",
        routers=[internal_router(calls, token=settings.worker_token)],
        ready=ready,
        lifespan=lifespan,
        registry=registry,
    )


def main() -> None:
    """Run the coordinator until SIGTERM. Only the local default (SQLite) migrates by itself."""
    settings = Settings()
    if not is_loopback(settings.coordinator.host) and "worker_token" not in settings.model_fields_set:
        sys.exit("The coordinator listens beyond loopback only with a token of its own: set CRAFT_WORKER_TOKEN.")
    log.configure(settings, "coordinator")
    telemetry.configure(settings, "coordinator")
    database = Database(settings.resolved_database_url)
    if database.is_sqlite:
        migrate.upgrade(database)
    queues = CeleryQueues(celery_app(settings))
    store = FolderStore(settings.resolved_artifacts_dir)
    app = coordinator_app(database, holds=store_holds(store), queues=queues, settings=settings)
    serve(app, settings.coordinator, settings)


if __name__ == "__main__":
    main()
