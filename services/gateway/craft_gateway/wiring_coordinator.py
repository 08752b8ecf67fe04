"""Builds the coordinator: the workers' calls over HTTP, and the loops that run beside them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from craft.infra.http.app import create_app
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.http.service_access import own_checks_access
from craft.infra.settings.publishing import PublishingSettings
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.concurrency import Bell, Loop, Pause, after_first, run_loop
from craft_gateway.lifecycle.dispatch import RELAY_PAGE, DispatchQueues, OutboxRelay
from craft_gateway.lifecycle.free_space import FreeSpace
from craft_gateway.lifecycle.maintenance import PAGE, Maintenance
from craft_gateway.lifecycle.reuse import ArtifactExists
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.metrics.counters import RetentionMetrics, StageMetrics, WebhookMetrics
from craft_gateway.metrics.gauges import DatabaseMetrics
from craft_gateway.publishing.loop import PublicationLoop
from craft_gateway.publishing.mlflow import MlflowPublisher
from craft_gateway.publishing.package import Publisher
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.retention.store import ArtifactFolders
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.webhooks.deliveries import Deliveries
from craft_gateway.webhooks.http_post import HttpPoster
from craft_gateway.webhooks.secrets import secret_box
from craft_gateway.webhooks.sender import WebhookSender, sender_thread
from craft_gateway.worker_api.observed import CountedCalls, LostLeases
from craft_gateway.worker_api.routes import worker_router

_RELAY_SECONDS = 1.0
"""A worker's report rings the relay's bell; only the gateway's messages (a new job, a retry) wait so long."""
_REDISPATCH_SWEEPS = 4
"""Sweeps from one redispatch to the next: it finds what nothing else has made ready."""
_CLEAN_UP_SECONDS = 60.0
_PUBLISHING_SECONDS = 5.0


def loops(
    relay: OutboxRelay,
    maintenance: Maintenance,
    retention: GarbageCollector,
    deliveries: Deliveries,
    publishing: PublicationLoop,
    settings: Settings,
    reported: Bell,
) -> tuple[Loop, ...]:
    """The coordinator's loops. Each stands alone: a broker that is down does not stop the reaper.

    `reported` rings after a worker's report, which may have made stages ready.
    """
    sweep_seconds = settings.coordinator.sweep_seconds
    return (
        Loop("relay", lambda: relay.send_due() >= RELAY_PAGE, _RELAY_SECONDS, reported),
        Loop("reaper", lambda: maintenance.reap() >= PAGE, sweep_seconds),
        Loop(
            "redispatch",
            after_first(maintenance.dispatch_all, lambda: maintenance.redispatch().dispatched >= PAGE),
            _REDISPATCH_SWEEPS * sweep_seconds,
        ),
        Loop("retention", retention.collect_page, settings.retention.sweep_seconds),
        Loop("webhooks", deliveries.clean_up, _CLEAN_UP_SECONDS),
        Loop("publishing", publishing.step, _PUBLISHING_SECONDS),
    )


def publishers(settings: PublishingSettings) -> Mapping[str, Publisher]:
    """The places that this installation is connected to, by kind."""
    found: dict[str, Publisher] = {}
    if settings.mlflow is not None:
        found["mlflow"] = MlflowPublisher(settings.mlflow, timeout_seconds=settings.timeout_seconds)
    if settings.hub is not None:
        # Its client is loaded only where there is a hub to talk to.
        from craft_gateway.publishing.hub import HubPublisher

        found["hub"] = HubPublisher(settings.hub)
    return found


def coordinator_app(
    database: Database,
    *,
    exists: ArtifactExists,
    queues: DispatchQueues,
    settings: Settings,
    pause: Pause = asyncio.sleep,
) -> FastAPI:
    """The application with its loops, which run as long as it does. Closes the database at its end."""
    space = FreeSpace(settings.resolved_artifacts_dir, min_free_bytes=settings.coordinator.min_free_bytes)
    calls = WorkerCalls(database, exists=exists, settings=settings.coordinator, has_space=space)
    registry = CollectorRegistry()
    registry.register(DatabaseMetrics(database, settings.resolved_artifacts_dir))
    metrics = StageMetrics(registry)
    lost = LostLeases(database, metrics)
    maintenance = Maintenance(database, calls, settings=settings.coordinator, on_lease_lost=lost.report)
    retention = GarbageCollector(
        database,
        ArtifactFolders(settings.resolved_artifacts_dir),
        settings.retention,
        on_skipped=RetentionMetrics(registry).skipped,
    )
    deliveries = Deliveries(
        database,
        at_once_per_host=settings.webhooks.at_once_per_host,
        keep_days=settings.webhooks.keep_days,
    )
    store = FolderStore(settings.resolved_artifacts_dir)
    publishing = PublicationLoop(database, store, publishers(settings.publishing), settings.publishing)
    reported = Bell()
    relay = OutboxRelay(database, queues)
    running = loops(relay, maintenance, retention, deliveries, publishing, settings, reported)
    webhook_metrics = WebhookMetrics(registry)

    def sender() -> WebhookSender:
        post = HttpPoster(OutboundPolicy(settings.outbound.allowed_hosts))
        return WebhookSender(deliveries, post, secret_box(settings), count=webhook_metrics.attempted)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI's signature
        tasks = [asyncio.create_task(run_loop(loop, pause=pause), name=loop.name) for loop in running]
        try:
            async with sender_thread(sender):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            database.close()

    async def ready() -> dict[str, bool]:
        return {"database": await asyncio.to_thread(schema.is_ready, database)}

    return create_app(
        title="CRaFT coordinator",
        service="coordinator",
        routers=[
            worker_router(CountedCalls(calls, database, metrics), token=settings.worker_token, reported=reported.ring)
        ],
        ready=ready,
        lifespan=lifespan,
        registry=registry,
        inner=own_checks_access(settings, settings.coordinator),
    )
