"""Builds the gateway's objects from the settings. Nothing else reads them; tests never import this file."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from fastapi import FastAPI

from craft.contracts.stages import TrainerRef
from craft.infra.artifacts import FolderStore
from craft.infra.http import create_app
from craft.infra.models import ModelFolders
from craft.infra.outbound import OutboundGuard
from craft.infra.room import Room
from craft.infra.served_adapters import ServedAdapters
from craft.infra.settings import Settings, engine_ref
from craft.infra.swept_store import SweptFolders
from craft_gateway.api_keys import ApiKeys
from craft_gateway.authentication import Authenticator
from craft_gateway.authorisation import Owners
from craft_gateway.comparing import Comparing
from craft_gateway.database import Database
from craft_gateway.dataset_contents import DatasetContents
from craft_gateway.datasets_client import HttpDatasetsClient
from craft_gateway.deployments import Deployments
from craft_gateway.estimating import Estimator
from craft_gateway.job_bodies import JobBodies
from craft_gateway.keys import store_holds
from craft_gateway.migrate import is_current
from craft_gateway.model_server_client import HttpModelServer
from craft_gateway.oidc import Oidc
from craft_gateway.openai_errors import answer_unknown_paths, in_openais_form
from craft_gateway.openapi_links import add_links
from craft_gateway.publications import Publications
from craft_gateway.rate_limits import RateLimits
from craft_gateway.retention import Retention
from craft_gateway.retention_pins import Pins
from craft_gateway.routes import before_routes, routers
from craft_gateway.routes_gateway import Gateway
from craft_gateway.sse import EventFeed
from craft_gateway.submission import Submission
from craft_gateway.submission_datasets import DatasetRegistry
from craft_gateway.submission_line import SubmissionLine
from craft_gateway.team_registry import TeamRegistry
from craft_gateway.transitions import Transitions
from craft_gateway.views_reading import Reader
from craft_gateway.waiting_line import WaitingLine
from craft_gateway.webhook_log import DeliveryLog
from craft_gateway.webhook_secrets import secret_box
from craft_gateway.webhooks import Webhooks


def app(settings: Settings) -> FastAPI:
    """The public API."""
    database = Database(settings.resolved_database_url)
    client = HttpDatasetsClient(settings.resolved_datasets_url)
    model_server = HttpModelServer(settings.resolved_model_server_url, token=settings.model_server_token)
    oidc = Oidc(settings.gateway.oidc) if settings.gateway.oidc else None
    authenticator = Authenticator(
        ApiKeys(database),
        oidc=oidc,
        operator_key=settings.gateway.operator_key,
        keyless=settings.gateway.keyless,
    )
    gateway = _gateway(settings, database, authenticator, client, model_server)
    limits = RateLimits(settings.gateway.requests_per_second, burst=settings.gateway.requests_at_once)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the framework's signature
        async with gateway.feed.running():
            with _closed_by_signals(gateway.feed):
                yield
        await model_server.close()
        client.close()
        if oidc is not None:
            oidc.close()
        database.close()

    async def ready() -> dict[str, bool]:
        # Neither the datasets service nor the model server: without them everything else still works.
        return {"database": await asyncio.to_thread(is_current, database)}

    app = create_app(
        title="CRaFT",
        service="gateway",
        routers=routers(gateway),
        ready=ready,
        max_body_bytes=settings.gateway.max_body_bytes,
        lifespan=lifespan,
        describe=add_links,
        other_form=in_openais_form,
        inner=before_routes(gateway, authenticator, limits),
    )
    answer_unknown_paths(app)
    return app


def _gateway(
    settings: Settings,
    database: Database,
    authenticator: Authenticator,
    client: HttpDatasetsClient,
    model_server: HttpModelServer,
) -> Gateway:
    store = FolderStore(settings.resolved_artifacts_dir)
    room = Room(settings.resolved_artifacts_dir, min_free_bytes=settings.coordinator.min_free_bytes)
    reader = Reader(database, WaitingLine(has_room=room), retention=settings.retention)
    transitions = Transitions(database, holds=store_holds(store), settings=settings.coordinator)
    datasets = DatasetRegistry(database, client)
    vllm = settings.inference.vllm if settings.inference.engine == "vllm" else None
    deployments = Deployments(
        database, reader, store=store, adapters=ServedAdapters(settings.resolved_adapters_dir), vllm=vllm
    )
    submission = Submission(
        database=database,
        reader=reader,
        transitions=transitions,
        estimator=Estimator(database),
        datasets=datasets,
        models=ModelFolders(settings.resolved_models_dir),
        engine=engine_ref(settings.inference),
        trainer=TrainerRef(dtype=settings.training.dtype),
        embedder=settings.scoring.embedder,
        vllm=vllm,
    )
    return Gateway(
        database=database,
        authenticator=authenticator,
        owners=Owners(database),
        keys=ApiKeys(database),
        teams=TeamRegistry(database),
        webhooks=Webhooks(database, guard=OutboundGuard(settings.outbound.allowed_hosts), box=secret_box(settings)),
        deliveries=DeliveryLog(database),
        submission=submission,
        line=SubmissionLine(submission, reader),
        datasets=datasets,
        contents=DatasetContents(store, ModelFolders(settings.resolved_models_dir)),
        transitions=transitions,
        reader=reader,
        bodies=JobBodies(reader),
        feed=EventFeed(reader),
        store=store,
        deployments=deployments,
        publications=Publications(database, reader, settings.publishing),
        comparing=Comparing(database, store),
        retention=Retention(database, SweptFolders(settings.resolved_artifacts_dir), settings.retention),
        pins=Pins(database),
        model_server=model_server,
        seeds_requests=settings.inference.vllm.seed_requests,
    )


@contextmanager
def _closed_by_signals(feed: EventFeed) -> Iterator[None]:
    """End open streams when the server is told to stop; it would wait for them to end by themselves first."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; such a server has none of its own either
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(feed.close)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
