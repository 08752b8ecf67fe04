"""The public API over a real SQLite file and artifact folder, with a fake datasets service and a worker by hand."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import SQLModel, select
from tests.services.gateway.evaluated_artifacts import write_evaluation

from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.contracts.report_reuse import reuse_mark
from craft.contracts.rows import ADAPTER_ARCHIVE, ADAPTER_FOLDER, REPORT_HTML, REPORT_JSON
from craft.contracts.stages import (
    ArtifactRef,
    Claim,
    ClaimedStage,
    Complete,
    Cost,
    EngineRef,
    EvaluateParameters,
    Fail,
    Manifest,
    Renew,
    StageKind,
    StageProgress,
    StageResult,
    TrainerRef,
)
from craft.errors import CraftError, NotFound
from craft.infra.artifacts import FolderStore
from craft.infra.http import create_app
from craft.infra.models import ModelFolders
from craft.infra.outbound import OutboundGuard
from craft.infra.served_adapters import ServedAdapters
from craft.infra.settings import CoordinatorSettings, PublishingSettings, RetentionSettings, VllmSettings
from craft.infra.swept_store import SweptFolders
from craft_gateway.api_keys import ApiKeys
from craft_gateway.authentication import Authenticator
from craft_gateway.authorisation import Owners
from craft_gateway.comparing import Comparing
from craft_gateway.database import Database
from craft_gateway.dataset_contents import DatasetContents
from craft_gateway.datasets_client import DatasetsClient
from craft_gateway.datasets_client_fake import FakeDatasetsClient
from craft_gateway.deployments import Deployments
from craft_gateway.estimating import Estimator
from craft_gateway.job_bodies import JobBodies
from craft_gateway.model_server_client import ModelServer
from craft_gateway.model_server_client_fake import FakeModelServer
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
from craft_gateway.tables import Stage
from craft_gateway.team_registry import TeamRegistry
from craft_gateway.transitions import Transitions
from craft_gateway.views_reading import Reader
from craft_gateway.waiting_line import WaitingLine
from craft_gateway.webhook_log import DeliveryLog
from craft_gateway.webhook_secrets import SecretBox
from craft_gateway.webhooks import Webhooks

MODEL = "tiny/model"
UNKNOWN_JOB = "cjob_01jgywz3x4v5q6r7s8t9vawbxc"
UNKNOWN_DATASET = "dset_01jgywz3x4v5q6r7s8t9vawbxc"
ResultT = TypeVar("ResultT")


def rows(count: int = 200) -> list[dict[str, Any]]:
    """Open-ended rows."""
    return [{"id": f"q{n}", "question": f"What is {n} plus {n}?", "answers": [str(2 * n)]} for n in range(count)]


def body(**changes: Any) -> dict[str, Any]:
    """A job's body that is accepted, with some members changed."""
    return {
        "base_model": {"id": MODEL},
        "dataset": {"rows": rows()},
        "strategies": ["cor-rait"],
        **changes,
    }


def model_folder(root: Path, name: str = MODEL, *, weights: str = "model.safetensors", **config: Any) -> Path:
    """A model folder that passes the checks: a configuration, and a tensor file without tensors."""
    folder = root / name
    folder.mkdir(parents=True)
    described = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, **config}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "tokenizer.json").write_text("{}")
    (folder / weights).write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def shaped_model(root: Path, name: str, shapes: Mapping[str, Sequence[int]], **config: Any) -> Path:
    """A model folder whose shapes can be read: sparse, since nobody looks at the weights."""
    folder = model_folder(root, name, **{"num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 100, **config})
    at, entries = 0, {}
    for tensor, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        entries[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(at))
    return folder


def published(store: FolderStore, stage: ClaimedStage) -> Manifest:
    """An artifact of the right files for a claimed stage, without a model's work."""
    scratch = store.scratch(stage.name)
    kind = stage.parameters.kind
    (scratch / "rows.jsonl").write_text(stage.key)
    if kind is StageKind.PACKAGE:
        (scratch / ADAPTER_ARCHIVE).write_bytes(b"\x1f\x8b" + stage.name.encode())
        adapter = scratch / ADAPTER_FOLDER
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "/tmp/x"}')
        (adapter / "adapter_model.safetensors").write_bytes(stage.name.encode())
    if isinstance(stage.parameters, EvaluateParameters):
        write_evaluation(scratch, stage.parameters)
    if kind is StageKind.REPORT:
        (scratch / REPORT_JSON).write_text('{"cost":[{"stage":"ingest"},{"stage":"report"}]}')
        (scratch / REPORT_HTML).write_text("<!doctype html>" + reuse_mark("ingest") + "," + reuse_mark("report"))
    return store.publish(
        scratch,
        key=stage.key,
        kind=kind,
        parameters=stage.parameters.model_dump(mode="json"),
        inputs=stage.inputs,
        result=StageResult(counts={"rows": 1}, cost=Cost(seconds=2.0, generated_tokens=5)),
    )


@cache
def empty_database() -> bytes:
    """A SQLite file with every table: made once, since each table costs flushes to the disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "craft.db"
        database = Database(f"sqlite:///{path}")
        SQLModel.metadata.create_all(database.engine)
        database.close()
        return path.read_bytes()


@contextmanager
def open_rig(folder: Path, **options: Any) -> Iterator["Rig"]:
    """A rig in an empty folder; its database is closed at the end."""
    rig = Rig(folder, **options)
    try:
        yield rig
    finally:
        rig.database.close()


class Rig:
    """Everything behind the API, and a client of it."""

    def __init__(
        self,
        folder: Path,
        *,
        vllm: VllmSettings | None = None,
        seeds_requests: bool = True,
        operator_key: str | None = None,
        oidc: Oidc | None = None,
        limits: RateLimits | None = None,
        datasets: DatasetsClient | None = None,
        publishing: PublishingSettings | None = None,
    ) -> None:
        """Without a key or an issuer every caller is the operator, as on a machine of one's own."""
        (folder / "craft.db").write_bytes(empty_database())
        self.database = Database(f"sqlite:///{folder / 'craft.db'}")
        self.artifacts = folder / "artifacts"
        self.store = FolderStore(self.artifacts)
        self.models = folder / "models"
        model_folder(self.models)
        self.datasets = FakeDatasetsClient()
        self.publishing = publishing or PublishingSettings()
        settings = CoordinatorSettings()
        self.keys = ApiKeys(self.database)
        self.teams = TeamRegistry(self.database)
        self.box = SecretBox(folder / "webhook.key")
        self.webhooks = Webhooks(self.database, guard=OutboundGuard(["127.0.0.1"]), box=self.box)
        self.limits = limits or RateLimits(None, burst=1)
        self.authenticator = Authenticator(
            self.keys,
            oidc=oidc,
            operator_key=None if operator_key is None else SecretStr(operator_key),
            keyless=operator_key is None and oidc is None,
        )
        self.transitions = Transitions(self.database, holds=self._holds, settings=settings)
        self.reader = Reader(self.database, WaitingLine(clock=count().__next__))
        self.feed = EventFeed(self.reader, poll_seconds=0.01)
        self.registry = DatasetRegistry(self.database, datasets or self.datasets)
        self.vllm = vllm
        self.adapters = folder / "adapters"
        self.deployments = Deployments(
            self.database,
            self.reader,
            store=self.store,
            adapters=ServedAdapters(self.adapters),
            vllm=vllm,
        )
        self.model_server: ModelServer = FakeModelServer()
        self.seeds_requests = seeds_requests
        self.app = self.new_app()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; the live feed does not run."""
        return self.run(lambda client: client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """One GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """One POST."""
        return self.request("POST", path, **options)

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[ResultT]]) -> ResultT:
        """Do something with a client."""

        async def go() -> ResultT:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await work(client)

        return asyncio.run(go())

    def submit(self, **changes: Any) -> str:
        """The id of a new job."""
        answer = self.post("/craft/jobs", json=body(**changes))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def claim(self, job_id: str, *, device: str | None = None) -> ClaimedStage:
        """Take the job's first ready stage as a worker does."""
        with self.database.read() as session:
            query = select(Stage).where(Stage.job_id == job_id, Stage.status == StageStatus.READY)
            stage = session.exec(query.order_by("position")).first()
            busy = session.exec(select(Stage.id).where(Stage.owner == "worker")).first()
        assert stage is not None, "no stage is ready"
        owner = f"worker of {stage.id}" if busy else "worker"
        claimed = self.transitions.claim(stage.id, Claim(owner=owner, service=stage.queue, device=device))
        assert claimed is not None
        return claimed

    def progress(self, stage: ClaimedStage, done: int, total: int, *log_lines: str) -> None:
        """Report how far a claimed stage is."""
        progress = StageProgress(done=done, total=total, metrics={"loss": 0.5})
        self.transitions.renew(stage.stage_id, Renew(fence=stage.fence, progress=progress, log_lines=list(log_lines)))

    def complete(self, stage: ClaimedStage) -> None:
        """Finish a claimed stage with an artifact of the right files."""
        manifest = published(self.store, stage)
        self.transitions.complete(stage.stage_id, Complete(fence=stage.fence, manifest=manifest))

    def fail(self, stage: ClaimedStage, error: CraftError) -> None:
        """Fail a claimed stage."""
        self.transitions.fail(stage.stage_id, Fail(fence=stage.fence, error=StageError.of(error)))

    def finish(self, job_id: str) -> None:
        """Do every stage that is left."""
        while not self.reader.job(job_id).status.terminal:
            self.complete(self.claim(job_id))

    def _holds(self, ref: ArtifactRef) -> bool:
        try:
            self.store.open(ref)
        except NotFound:
            return False
        return True

    def gateway(self) -> Gateway:
        """What is behind the routes, over what the rig holds now."""
        submission = Submission(
            database=self.database,
            reader=self.reader,
            transitions=self.transitions,
            estimator=Estimator(self.database, rule_seconds=0.0, queue_seconds=0.0),
            datasets=self.registry,
            models=ModelFolders(self.models),
            engine=EngineRef(),
            trainer=TrainerRef(),
            embedder="an embedder",
            vllm=self.vllm,
        )
        return Gateway(
            database=self.database,
            authenticator=self.authenticator,
            owners=Owners(self.database),
            keys=self.keys,
            teams=self.teams,
            webhooks=self.webhooks,
            deliveries=DeliveryLog(self.database),
            submission=submission,
            line=SubmissionLine(submission, self.reader),
            datasets=self.registry,
            contents=DatasetContents(self.store, ModelFolders(self.models)),
            transitions=self.transitions,
            reader=self.reader,
            bodies=JobBodies(self.reader),
            feed=self.feed,
            store=self.store,
            deployments=self.deployments,
            publications=Publications(self.database, self.reader, self.publishing),
            comparing=Comparing(self.database, self.store),
            retention=Retention(self.database, SweptFolders(self.artifacts), RetentionSettings()),
            pins=Pins(self.database),
            model_server=self.model_server,
            seeds_requests=self.seeds_requests,
        )

    def new_app(self) -> FastAPI:
        """The API over what the rig holds now."""
        gateway = self.gateway()
        app = create_app(
            title="CRaFT",
            service="gateway",
            routers=routers(gateway),
            max_body_bytes=64 * 2**20,
            describe=add_links,
            other_form=in_openais_form,
            inner=before_routes(gateway, self.authenticator, self.limits),
        )
        answer_unknown_paths(app)
        return app
