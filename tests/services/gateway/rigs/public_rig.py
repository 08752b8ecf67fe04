"""The public API over a real SQLite file and artifact folder, with a fake datasets service and a manual worker."""

import asyncio
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
from tests.model_files import safetensors, write_checkpoint
from tests.services.gateway.rigs.evaluated_artifacts import write_evaluation

from craft.contracts.documents.report import reuse_mark
from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import Cost, Manifest, StageResult
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Renew, StageProgress
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import EvaluateParameters
from craft.contracts.stages.rows import ADAPTER_ARCHIVE, ADAPTER_FOLDER, REPORT_HTML, REPORT_JSON
from craft.errors import CraftError
from craft.infra.settings.coordinator import CoordinatorSettings
from craft.infra.settings.gateway import OutboundSettings
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft.infra.settings.publishing import PublishingSettings
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.access.authentication import Authenticator, RateLimits
from craft_gateway.access.oidc import Oidc
from craft_gateway.accounts.keys import ApiKeys
from craft_gateway.accounts.teams import TeamRegistry
from craft_gateway.datasets.client import DatasetsClient
from craft_gateway.datasets.client_fake import FakeDatasetsClient
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.estimates.estimator import Estimator
from craft_gateway.job_views.event_stream import EventFeed
from craft_gateway.job_views.reader import JobReader
from craft_gateway.jobs.submission import Submissions
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.scheduling.queue import QueueSnapshots
from craft_gateway.serving.deployments import Deployments
from craft_gateway.serving.model_server import ModelServer
from craft_gateway.serving.model_server_fake import FakeModelServer
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage
from craft_gateway.wiring_api import deployments, public_api, submissions

MODEL = "tiny/model"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
UNKNOWN_JOB = "cjob_01jgywz3x4v5q6r7s8t9vawbxc"
UNKNOWN_DATASET = "dset_01jgywz3x4v5q6r7s8t9vawbxc"
ResultT = TypeVar("ResultT")


def rows(count: int = 200) -> list[dict[str, Any]]:
    """Return open-ended rows."""
    return [{"id": f"q{n}", "question": f"What is {n} plus {n}?", "answers": [str(2 * n)]} for n in range(count)]


def body(**changes: Any) -> dict[str, Any]:
    """Return a valid body of a job, with some members changed."""
    return {
        "base_model": {"id": MODEL},
        "dataset": {"rows": rows()},
        "strategies": ["cor-rait"],
        **changes,
    }


def model_folder(root: Path, name: str = MODEL, *, weights: str = "model.safetensors", **config: Any) -> Path:
    """Make a model folder that passes the checks: a whole checkpoint of zeros, under the name `weights`."""
    folder = write_checkpoint(root / name, **config)
    (folder / "model.safetensors").rename(folder / weights)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


def shaped_model(root: Path, name: str, shapes: Mapping[str, Sequence[int]], **config: Any) -> Path:
    """Make a model folder whose weight file has these tensors alone, so that only its shapes can be read."""
    folder = model_folder(root, name, **config)
    (folder / "model.safetensors").write_bytes(safetensors(shapes))
    return folder


def published(store: FolderStore, stage: ClaimedStage) -> Manifest:
    """Publish an artifact with the files that the claimed stage's kind needs, without a model."""
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
        result=StageResult(counts={"rows": 1}, cost=Cost(seconds=2.0, generated_tokens=5, peak_memory_bytes=3 * 2**20)),
    )


@cache
def empty_database() -> bytes:
    """Return the bytes of a SQLite file with every table; made once, because each table costs flushes to the disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "craft.db"
        database = Database(f"sqlite:///{path}")
        SQLModel.metadata.create_all(database.engine)
        database.close()
        return path.read_bytes()


@contextmanager
def open_rig(folder: Path, **options: Any) -> Iterator["Rig"]:
    """Open a rig in an empty folder, and close its database at the end."""
    rig = Rig(folder, **options)
    try:
        yield rig
    finally:
        rig.database.close()


class Rig:
    """All objects of the public API, and a client of it."""

    def __init__(
        self,
        folder: Path,
        *,
        vllm: VllmSettings | None = None,
        operator_key: str | None = None,
        oidc: Oidc | None = None,
        limits: RateLimits | None = None,
        datasets: DatasetsClient | None = None,
        publishing: PublishingSettings | None = None,
    ) -> None:
        """Without a key or an issuer, every caller is the operator, as in a local installation."""
        (folder / "craft.db").write_bytes(empty_database())
        self.database = Database(f"sqlite:///{folder / 'craft.db'}")
        self.models = folder / "models"
        model_folder(self.models)
        self.settings = Settings(
            state_dir=folder,
            inference=InferenceSettings(
                engine="transformers" if vllm is None else "vllm",
                vllm=vllm or VllmSettings(),
            ),
            publishing=publishing or PublishingSettings(),
            outbound=OutboundSettings(allowed_hosts=["127.0.0.1"]),
        )
        self.artifacts = self.settings.resolved_artifacts_dir
        self.store = FolderStore(self.artifacts)
        self.adapters = self.settings.resolved_adapters_dir
        self.datasets = FakeDatasetsClient()
        self.client: DatasetsClient = datasets or self.datasets
        self.model_server: ModelServer = FakeModelServer()
        self.keys = ApiKeys(self.database)
        self.teams = TeamRegistry(self.database)
        self.limits = limits or RateLimits(None, burst=1)
        self.authenticator = Authenticator(
            self.keys,
            oidc=oidc,
            operator_key=None if operator_key is None else SecretStr(operator_key),
            keyless=operator_key is None and oidc is None,
        )
        exists = self.store.holds
        self.control = JobControl(self.database, exists=exists)
        self.calls = WorkerCalls(self.database, exists=exists, settings=CoordinatorSettings())
        self.reader = JobReader(self.database, QueueSnapshots(clock=count().__next__))
        self.feed = EventFeed(self.reader, poll_seconds=0.01)
        self.app = self.new_app()

    @property
    def registry(self) -> DatasetRegistry:
        """A registry over the current client of the datasets service."""
        return DatasetRegistry(self.database, self.client)

    @property
    def deployments(self) -> Deployments:
        """The deployments of the rig."""
        return deployments(self.settings, self.database, self.reader)

    @property
    def submissions(self) -> Submissions:
        """The submissions of the rig."""
        return submissions(
            self.settings,
            reader=self.reader,
            control=self.control,
            registry=self.registry,
            estimator=Estimator(self.database, duration_model_seconds=0.0, queue_seconds=0.0),
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request, without the live feed."""
        return self.run(lambda client: client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send one GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Send one POST."""
        return self.request("POST", path, **options)

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[ResultT]]) -> ResultT:
        """Run `work` with a client, and return its result."""

        async def go() -> ResultT:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await work(client)

        return asyncio.run(go())

    def submit(self, **changes: Any) -> str:
        """Submit a job and return its id."""
        answer = self.post("/craft/jobs", json=body(**changes))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def claim(self, job_id: str, *, device: str | None = None) -> ClaimedStage:
        """Claim the job's first ready stage, as a worker does."""
        with self.database.read() as session:
            query = select(Stage).where(Stage.job_id == job_id, Stage.status == StageStatus.READY)
            stage = session.exec(query.order_by("position")).first()
            busy = session.exec(select(Stage.id).where(Stage.owner == "worker")).first()
        assert stage is not None, "no stage is ready"
        owner = f"worker of {stage.id}" if busy else "worker"
        claimed = self.calls.claim(stage.id, Claim(owner=owner, service=stage.queue, device=device))
        assert claimed is not None
        return claimed

    def progress(self, stage: ClaimedStage, done: int, total: int, *log_lines: str) -> None:
        """Report the progress of a claimed stage."""
        progress = StageProgress(done=done, total=total, metrics={"loss": 0.5})
        self.calls.renew(stage.stage_id, Renew(fence=stage.fence, progress=progress, log_lines=list(log_lines)))

    def complete(self, stage: ClaimedStage) -> None:
        """Complete a claimed stage with an artifact of the right files."""
        manifest = published(self.store, stage)
        self.calls.complete(stage.stage_id, Complete(fence=stage.fence, manifest=manifest))

    def fail(self, stage: ClaimedStage, error: CraftError) -> None:
        """Fail a claimed stage."""
        self.calls.fail(stage.stage_id, Fail(fence=stage.fence, error=StageError.of(error)))

    def finish(self, job_id: str) -> None:
        """Complete every remaining stage of the job."""
        while not self.reader.job(job_id).status.terminal:
            self.complete(self.claim(job_id))

    def let_seeds(self, *, through: bool) -> None:
        """Set whether the next application sends seeds to the model server."""
        self.settings.inference.vllm.seed_requests = through

    def new_app(self) -> FastAPI:
        """Build the API over the rig's current objects."""
        return public_api(
            self.settings,
            self.database,
            client=self.client,
            model_server=self.model_server,
            reader=self.reader,
            feed=self.feed,
            estimator=Estimator(self.database, duration_model_seconds=0.0, queue_seconds=0.0),
            authenticator=self.authenticator,
            limits=self.limits,
        )
