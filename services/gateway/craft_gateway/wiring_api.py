"""Builds the public API from the settings: for the program, and for tests, which hand in fakes of the outside."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from fastapi import Depends, FastAPI
from fastapi.routing import APIRouter
from starlette.middleware import Middleware

from craft.errors import RequestInvalid
from craft.infra.device.deployment import engine_ref, trainer_ref
from craft.infra.http.app import Lifespan, Mounted, Ready, create_app
from craft.infra.http.openapi import documented
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.http.service_access import MetricsAccess
from craft.infra.models.folders import ModelFolders
from craft.infra.models.inspection.inspector import Inspections
from craft.infra.settings.inference import VllmSettings
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.storage.served_adapters import ServedAdapters
from craft.infra.storage.sick_workers import SickWorkers
from craft_gateway.access.authentication import Authentication, Authenticator, RateLimits
from craft_gateway.access.authorisation import REFUSALS
from craft_gateway.access.long_work import LargeBodies, long_work
from craft_gateway.access.oidc import Oidc
from craft_gateway.access.open_requests import BoundedRequests, OpenRequests
from craft_gateway.access.owners import OWNED, OwnerLookup
from craft_gateway.accounts import routes as accounts
from craft_gateway.accounts.keys import ApiKeys
from craft_gateway.accounts.teams import TeamRegistry
from craft_gateway.comparison import routes as comparison
from craft_gateway.comparison.comparison import Comparisons
from craft_gateway.datasets import routes as datasets
from craft_gateway.datasets.client import DatasetsClient, HttpDatasetsClient
from craft_gateway.datasets.preview import DatasetContents
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.estimates.estimator import Estimator
from craft_gateway.http.openapi import add_links
from craft_gateway.http.parameters import RefuseUnknownParameters
from craft_gateway.http.responses import OPENAI_ROOT, ROOT
from craft_gateway.job_views import routes as job_views
from craft_gateway.job_views import routes_events, routes_results
from craft_gateway.job_views.event_stream import EventFeed
from craft_gateway.job_views.poll_middleware import PollMiddleware
from craft_gateway.job_views.reader import JobReader
from craft_gateway.job_views.response_cache import JobResponseCache
from craft_gateway.job_views.stored_results import StoredResults
from craft_gateway.jobs import routes as jobs
from craft_gateway.jobs.batching import BatchedSubmissions
from craft_gateway.jobs.inspection import JobInspector
from craft_gateway.jobs.retry import Retries
from craft_gateway.jobs.submission import Submissions
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.free_space import FreeSpace
from craft_gateway.openai import routes_chat, routes_files, routes_tuning
from craft_gateway.openai.errors import answer_unknown_paths, in_openais_form
from craft_gateway.openai.files import OpenAiFiles
from craft_gateway.openai.ids import OPENAI_OWNED
from craft_gateway.openai.tuning import OpenAiTuning
from craft_gateway.publishing import routes as publishing
from craft_gateway.publishing.publications import Publications
from craft_gateway.retention import routes as retention
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.retention.store import ArtifactFolders
from craft_gateway.scheduling.queue import QueueSnapshots
from craft_gateway.serving import routes as serving
from craft_gateway.serving.deployments import Deployments
from craft_gateway.serving.model_server import HttpModelServer, ModelServer
from craft_gateway.store.database import Database
from craft_gateway.store.schema import is_ready
from craft_gateway.webhooks import routes as webhooks
from craft_gateway.webhooks.delivery_log import DeliveryLog
from craft_gateway.webhooks.registry import Webhooks
from craft_gateway.webhooks.secrets import secret_box


def app(settings: Settings) -> FastAPI:
    """The program: everything outside is real, and closed when the server ends."""
    database = Database(settings.resolved_database_url)
    client = HttpDatasetsClient(settings.resolved_datasets_url, token=settings.service_token)
    model_server = HttpModelServer(settings.resolved_model_server_url, token=settings.model_server_token)
    oidc = Oidc(settings.gateway.oidc) if settings.gateway.oidc else None
    space = FreeSpace(settings.resolved_artifacts_dir, min_free_bytes=settings.coordinator.min_free_bytes)
    reader = JobReader(
        database,
        QueueSnapshots(has_space=space, sick_workers=SickWorkers(settings.resolved_artifacts_dir).of),
        retention=settings.retention,
    )
    feed = EventFeed(reader)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the framework's signature
        async with feed.running():
            with _closed_by_signals(feed):
                yield
        await model_server.close()
        client.close()
        if oidc is not None:
            oidc.close()
        database.close()

    async def ready() -> dict[str, bool]:
        # Neither the datasets service nor the model server: without them everything else still works.
        return {"database": await asyncio.to_thread(is_ready, database)}

    return public_api(
        settings,
        database,
        client=client,
        model_server=model_server,
        reader=reader,
        feed=feed,
        estimator=Estimator(database),
        authenticator=Authenticator(
            ApiKeys(database),
            oidc=oidc,
            operator_key=settings.gateway.operator_key,
            keyless=settings.gateway.keyless,
        ),
        limits=RateLimits(settings.gateway.requests_per_second, burst=settings.gateway.requests_at_once),
        lifespan=lifespan,
        ready=ready,
    )


def public_api(
    settings: Settings,
    database: Database,
    *,
    client: DatasetsClient,
    model_server: ModelServer,
    reader: JobReader,
    feed: EventFeed,
    estimator: Estimator,
    authenticator: Authenticator,
    limits: RateLimits,
    lifespan: Lifespan | None = None,
    ready: Ready | None = None,
) -> FastAPI:
    """The public API over one database. What has a clock, a cache or another process behind it comes in."""
    store = FolderStore(settings.resolved_artifacts_dir)
    models = ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models)
    owners = OwnerLookup(database, {**OWNED, **OPENAI_OWNED})
    responses = JobResponseCache(reader)
    registry = DatasetRegistry(database, client)
    control = JobControl(database, exists=store.holds)
    submitted = submissions(settings, reader=reader, control=control, registry=registry, estimator=estimator)
    work = long_work()
    batched = BatchedSubmissions(submitted, slow=work.checks)
    retries = Retries(
        reader=reader,
        control=control,
        datasets=registry,
        estimator=estimator,
        models=models,
        engine=engine_ref(settings.inference, os.environ),
        trainer=trainer_ref(settings.training, os.environ),
    )
    deployed = deployments(settings, database, reader)
    policy = OutboundPolicy(settings.outbound.allowed_hosts)
    hooks = Webhooks(database, policy=policy, box=secret_box(settings))
    collector = GarbageCollector(database, ArtifactFolders(settings.resolved_artifacts_dir), settings.retention)
    own = [
        comparison.router(owners, Comparisons(database, store), work.results),
        jobs.router(owners, submitted, retries, batched, control, reader, work.checks),
        job_views.router(owners, reader, responses, feed, authenticator),
        routes_events.router(owners, reader, feed, authenticator),
        routes_results.router(owners, reader, StoredResults(database, store), work.results),
        serving.router(owners, deployed, reader, work.results),
        publishing.router(owners, Publications(database, reader, settings.publishing), reader),
        datasets.router(
            owners,
            registry,
            DatasetContents(store, models),
            fetches=work.fetches,
            uploads=work.uploads,
            results=work.results,
        ),
        retention.router(collector, work.results),
        accounts.router(owners, ApiKeys(database), database),
        accounts.teams_router(TeamRegistry(database)),
        webhooks.router(owners, hooks, DeliveryLog(database)),
    ]
    openai = [
        routes_chat.router(owners, deployed, model_server, seeds_requests=settings.inference.vllm.seed_requests),
        routes_files.router(owners, OpenAiFiles(database, registry, store), work.uploads),
        routes_tuning.router(owners, OpenAiTuning(database, reader, batched, control, deployed)),
    ]
    made = create_app(
        title="CRaFT",
        service="gateway",
        routers=_mounted(own, openai),
        ready=ready,
        max_body_bytes=settings.gateway.max_body_bytes,
        lifespan=lifespan,
        describe=add_links,
        other_form=in_openais_form,
        inner=[
            Middleware(MetricsAccess, token=settings.metrics_token),
            # Who calls comes first; polls, which most requests are, are answered before routing.
            Middleware(Authentication, authenticator=authenticator, limits=limits, other_form=in_openais_form),
            Middleware(BoundedRequests, requests=open_requests(settings), other_form=in_openais_form),
            Middleware(PollMiddleware, owners=owners, responses=responses),
            Middleware(LargeBodies, work=work, other_form=in_openais_form),
        ],
    )
    answer_unknown_paths(made)
    return made


def submissions(
    settings: Settings,
    *,
    reader: JobReader,
    control: JobControl,
    registry: DatasetRegistry,
    estimator: Estimator,
) -> Submissions:
    """Submissions for the engine, trainer and models of the settings."""
    return Submissions(
        reader=reader,
        control=control,
        datasets=registry,
        estimator=estimator,
        models=ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models),
        inspector=JobInspector(FolderStore(settings.resolved_artifacts_dir), Inspections()),
        engine=engine_ref(settings.inference, os.environ),
        trainer=trainer_ref(settings.training, os.environ),
        embedder=settings.scoring.embedder,
        nf4=settings.training.nf4,
        device_bytes=None if settings.training.device_gib is None else int(settings.training.device_gib * 2**30),
        vllm=_vllm(settings),
    )


def open_requests(settings: Settings) -> OpenRequests:
    """The counter of requests under way, for one gateway."""
    return OpenRequests(
        per_key=settings.gateway.open_requests_per_key, per_team=settings.gateway.open_requests_per_team
    )


def deployments(settings: Settings, database: Database, reader: JobReader) -> Deployments:
    """Deployments from the settings' artifacts to the folder of served adapters."""
    store = FolderStore(settings.resolved_artifacts_dir)
    adapters = ServedAdapters(settings.resolved_adapters_dir)
    return Deployments(database, reader, store=store, adapters=adapters, vllm=_vllm(settings))


def _vllm(settings: Settings) -> VllmSettings | None:
    """The settings of vLLM where it is the engine."""
    return settings.inference.vllm if settings.inference.engine == "vllm" else None


def _mounted(own: list[APIRouter], openai: list[APIRouter]) -> list[Mounted]:
    """Own routes at /craft, and the same at /v1/craft outside the OpenAPI document; OpenAI's calls at /v1."""
    refusals = {**REFUSALS, **documented(RequestInvalid)}
    # OpenAI's clients may send what only OpenAI knows.
    checks = [Depends(RefuseUnknownParameters())]
    return [
        *(Mounted(router, ROOT, refusals, checks) for router in own),
        *(Mounted(router, f"{OPENAI_ROOT}{ROOT}", refusals, checks, include_in_schema=False) for router in own),
        *(Mounted(router, OPENAI_ROOT) for router in openai),
    ]


@contextmanager
def _closed_by_signals(feed: EventFeed) -> Iterator[None]:
    """Close open streams when the server is asked to stop; it would wait for them otherwise."""
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
