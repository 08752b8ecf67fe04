"""Hostile names in every parameter of every service: nothing breaks, nothing foreign is read, nothing is made."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi import FastAPI, HTTPException, Response
from pydantic import SecretStr
from tests.security.attacks import Answer, Attack, Honest, attacks_on, send
from tests.security.hostile_paths import hostile_paths
from tests.security.watched_files import outside, watched_files
from tests.services.gateway.rigs.dataset_rig import datasets_service
from tests.services.gateway.rigs.public_rig import body, open_rig, rows
from tests.services.gateway.rigs.world import new_world
from tests.services.inference.rigs.supervisor_rig import Rig as SupervisedRig
from tests.services.inference.rigs.supervisor_rig import base

from craft.contracts.services.model_server import BASE_MODEL_HEADER, LEASE_HEADER
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.infra.http.app import create_app
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.datasets import HubSettings
from craft.infra.settings.inference import VllmSettings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.worker_api.routes import worker_router
from craft_inference import routes as inference_routes
from craft_inference.calls import Calls
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine
from craft_inference.model_server import routes as model_server_routes
from craft_inference.model_server.adapter_chats import AdapterChats
from craft_scoring import routes as scoring_routes
from craft_scoring.embedding.fake import HashingEmbedder
from craft_training import routes as training_routes
from craft_training.tuning.throughput import KnownThroughput

SECRETS = (b"the canary's secret", b"root:x:0:0")
TOKEN = SecretStr("sesame")
_NOTHING_THERE = {307, 400, 404, 405, 422}
"""A name with a slash makes the path another one: no route, one without that method, or one that is redirected."""
_FORGIVING = {"endLease"}
"""Ending an unknown lease is no error."""
AUTHORIZED = {"authorization": f"Bearer {TOKEN.get_secret_value()}"}


@dataclass(frozen=True, slots=True)
class Target:
    """A service, what honest requests to it say, and the folder that it may touch."""

    app: FastAPI
    honest: Honest
    state: Path
    canary: Path
    real_id: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traversal")
    (folder / "outside").mkdir()
    (folder / "outside" / "canary.txt").write_bytes(SECRETS[0])
    (folder / "state").mkdir()
    return folder


def target(folder: Path, app: FastAPI, honest: Honest, *, real_id: str = "x") -> Target:
    return Target(app, honest, folder / "state", folder / "outside" / "canary.txt", real_id)


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Target]:
    with open_rig(folder / "state", vllm=VllmSettings()) as rig:
        job_id = rig.submit(strategies=["cor-rait"])
        rig.finish(job_id)
        dataset_id = str(rig.post("/craft/datasets", json={"rows": rows(5)}).json()["id"])
        model = str(rig.post(f"/craft/jobs/{job_id}/deploy").json()["model"])
        asked = body(dataset={"id": dataset_id}, evaluation=[{"dataset": dataset_id, "name": "again"}], name="n")
        asked["base_model"]["revision"] = "main"
        bodies = {
            **dict.fromkeys(("createJob", "validateJob"), asked),
            "retryJob": {"from_stage": "ingest"},
            "deployAdapter": {"strategy": "cor-rait"},
            "createDataset": {"rows": rows(2), "name": "n"},
            "createChatCompletion": {"model": model, "messages": [{"role": "user", "content": "?"}]},
        }
        honest = Honest({"job_id": job_id, "dataset_id": dataset_id, "model": model}, {}, bodies)
        yield target(folder, rig.app, honest, real_id=job_id)


@pytest.fixture(scope="module")
def coordinator(folder: Path) -> Iterator[Target]:
    (folder / "state" / "coordinator").mkdir()
    with new_world(folder / "state" / "coordinator") as world:
        stage_id = world.stage(world.create(), "ingest").id
        app = create_app(title="test", service="coordinator", routers=[worker_router(world.calls, token=TOKEN)])
        error = {"code": "internal", "message": "m", "fault": "system", "retryable": False}
        bodies = {
            "claimStage": {"owner": "w", "service": "datasets"},
            "renewStage": {"fence": 1},
            "releaseStage": {"fence": 1},
            "failStage": {"fence": 1, "error": error},
        }
        yield target(folder, app, Honest({"stage_id": stage_id}, AUTHORIZED, bodies), real_id=stage_id)


@pytest.fixture
def datasets(folder: Path) -> Target:
    return target(folder, datasets_service(FolderStore(folder / "state" / "store"), HubSettings()), Honest())


@pytest.fixture
def inference(folder: Path) -> Target:
    folders = ModelFolders(folder / "state" / "models")

    def find(model: BaseModelRef) -> ModelRef:
        return folders.find(model.id, model.revision).ref

    engines = EngineHolder(lambda *_: FakeEngine(), folders.locate, name="transformers")
    routes = inference_routes.router(Calls(engines, find, EngineRef()))
    return target(folder, create_app(title="test", service="inference", routers=[routes]), Honest())


@pytest.fixture
def model_server(folder: Path) -> Target:
    chats = AdapterChats(folder / "state" / "adapters")
    routes = model_server_routes.router(SupervisedRig().supervisor, token=TOKEN, chats=chats)
    headers = {**AUTHORIZED, LEASE_HEADER.lower(): "x", BASE_MODEL_HEADER.lower(): base().model_dump_json()}
    return target(
        folder, create_app(title="test", service="model-server", routers=[routes]), Honest({"lease_id": "x"}, headers)
    )


@pytest.fixture
def scoring(folder: Path) -> Target:
    app = create_app(title="test", service="scoring", routers=[scoring_routes.router(HashingEmbedder)])
    return target(folder, app, Honest())


@pytest.fixture
def training(folder: Path) -> Target:
    folders = ModelFolders(folder / "state" / "models")
    routes = training_routes.router(folders, KnownThroughput(1e9), device="cpu", weight_bytes=4)
    estimate = {"model": {"id": "tiny/model", "revision": "main"}, "rows": 10, "tokens_per_row": 10}
    app = create_app(title="test", service="training", routers=[routes])
    return target(folder, app, Honest(bodies={"estimateTraining": estimate}))


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder that is not below the state folder, with what it holds."""
    found = [path for path in folder.rglob("*") if not path.is_relative_to(folder / "state")]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def fault(attack: Attack, answer: Answer) -> str | None:
    """What is wrong with an answer."""
    if answer.status >= 500:
        return f"{answer.status} {answer.body[:200]!r}"
    if any(secret in answer.body for secret in SECRETS):
        return "a foreign file"
    if attack.where == "path" and answer.status not in _NOTHING_THERE and attack.operation not in _FORGIVING:
        return f"{answer.status} for a name that is none"
    location = answer.headers.get("location", "")
    if "://" in location and not location.startswith("http://localhost/"):
        return f"sent away to {location[:100]}"
    return None


def faults(of: Target, hostile: Sequence[str]) -> tuple[int, list[str]]:
    """How many attacks were made, and what was wrong with the answers."""

    async def attack_all() -> tuple[int, list[str]]:
        made, found = 0, []
        for attack in attacks_on(of.app.openapi(), hostile, of.honest):
            answer = await send(of.app, attack, of.honest.headers)
            made += 1
            wrong = fault(attack, answer)
            if wrong is not None:
                found.append(f"{attack.operation} {attack.where} {attack.parameter}={attack.hostile[:60]}: {wrong}")
        return made, found

    return asyncio.run(attack_all())


def test_sixty_different_hostile_names(folder: Path) -> None:
    names = hostile_paths(folder / "outside" / "canary.txt", real_id="cjob_x")
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(
    ("service", "least"),
    [("gateway", 60), ("coordinator", 6), ("model_server", 1), ("inference", 2), ("training", 2), ("scoring", 1),
     ("datasets", 0)],
)  # fmt: skip
def test_hostile_names_lead_nowhere(folder: Path, service: str, least: int, request: pytest.FixtureRequest) -> None:
    attacked: Target = request.getfixturevalue(service)
    hostile = hostile_paths(attacked.canary, real_id=attacked.real_id)
    before = everything(folder)
    with watched_files() as seen:
        made, found = faults(attacked, hostile)
    assert found == []
    assert outside(seen, allowed=attacked.state) == []
    assert everything(folder) == before
    assert made >= least * len(hostile)


def upload(path: str, name: str, content: bytes) -> Attack:
    """A form whose file has that name, as raw bytes."""
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    task = '--cut\r\nContent-Disposition: form-data; name="task"\r\n\r\nopen_ended\r\n'
    form = task.encode() + head.encode() + content + b"\r\n--cut--\r\n"
    return Attack(
        "upload",
        "filename",
        "body",
        name,
        "post",
        path,
        "",
        {"content-type": "multipart/form-data; boundary=cut"},
        form,
    )


def test_a_file_name_is_a_label_only(folder: Path, gateway: Target) -> None:
    before = everything(folder)
    with watched_files() as seen:
        for text in hostile_paths(gateway.canary, real_id=gateway.real_id):
            for name in {text, unquote(text).replace('"', "").replace("\r", "").replace("\n", "")}:
                content = json.dumps({"question": f"Why {len(name)}?", "answers": ["x"]}).encode()
                answer = asyncio.run(send(gateway.app, upload("/craft/datasets", name, content), {}))
                assert answer.status in {201, 422}, (name, answer)
                shown = json.loads(answer.body).get("name") or ""
                assert not {"/", "\\", "\0"} & {*shown}
    assert outside(seen, allowed=gateway.state) == []
    assert everything(folder) == before


def test_the_service_behind_uploads_makes_nothing_of_a_file_name(folder: Path, datasets: Target) -> None:
    before = everything(folder)
    for name in ("../../outside/new.jsonl", str(datasets.canary), "..\\..\\x", "x\0y", "\uff0e\uff0e\uff0fx"):
        content = b'{"question": "Why?", "answers": ["x"]}'
        answer = asyncio.run(send(datasets.app, upload("/v1/datasets", name, content), {}))
        assert answer.status in {200, 422}, (name, answer)
    assert everything(folder) == before


def leaking(folder: Path, action: Callable[[Path], object]) -> Target:
    """A service with one careless route."""
    app = FastAPI()

    @app.get("/files/{name:path}", operation_id="leak", response_model=None)
    def leak(name: str) -> object:
        try:
            return action(folder / "state" / name)
        except (OSError, ValueError):
            raise HTTPException(404) from None

    return target(folder, app, Honest({"name": "x"}))


@pytest.mark.parametrize("action", [Path.read_text, lambda path: Response(path.read_bytes())])
def test_a_route_that_gives_foreign_files_away_would_be_noticed(folder: Path, action: Callable[[Path], object]) -> None:
    careless = leaking(folder, action)
    _, found = faults(careless, hostile_paths(careless.canary, real_id="x"))
    assert any("a foreign file" in each for each in found)


def test_a_route_that_reads_or_makes_what_is_not_its_own_would_be_noticed(folder: Path) -> None:
    def careless(path: Path) -> object:
        (path.parent / "made").mkdir(exist_ok=True)
        path.open("rb").close()
        raise ValueError

    before = everything(folder)
    of = leaking(folder, careless)
    with watched_files() as seen:
        _, found = faults(of, ["../outside/canary.txt"])
    assert found == []
    assert any(name.endswith("outside/canary.txt") for name in outside(seen, allowed=of.state))
    assert everything(folder) != before
    (folder / "outside" / "made").rmdir()
