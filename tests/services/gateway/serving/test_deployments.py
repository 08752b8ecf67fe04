"""A finished adapter gets a model name, keeps it over lost volumes and restarts, and can be withdrawn."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import Session
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, body, model_folder, open_rig

from craft.core.strategies import Strategy
from craft.errors import Unavailable
from craft.infra.settings.inference import VllmSettings
from craft.infra.storage.served_adapters import ServedAdapters
from craft_gateway.serving.deployments import Deployments
from craft_gateway.store.database import Database

TWO = ["cor-rait", "van-tuning"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path, vllm=VllmSettings()) as rig:
        yield rig


def finished(rig: Rig, **changes: Any) -> str:
    job_id = rig.submit(**changes)
    rig.finish(job_id)
    return job_id


def deploy(rig: Rig, job_id: str, **fields: str) -> httpx.Response:
    return rig.post(f"/craft/jobs/{job_id}/deploy", json=fields)


def served(rig: Rig) -> list[str]:
    return sorted(path.name for path in rig.adapters.iterdir()) if rig.adapters.exists() else []


def event_types(rig: Rig, job_id: str) -> list[str]:
    page = rig.get(f"/craft/jobs/{job_id}/events?limit=500").json()
    return [event["type"] for event in page["data"]]


def test_a_deployed_adapter_has_a_name_and_lies_where_the_model_server_reads(rig: Rig) -> None:
    job_id = finished(rig)
    answer = deploy(rig, job_id)
    shown = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/models/{shown['id']}")
    assert (shown["object"], shown["model"], shown["job_id"]) == ("craft.deployment", shown["id"], job_id)
    assert (shown["strategy"], shown["base_model"]) == ("cor-rait", "tiny/model")
    assert shown["links"]["chat_completions"] == "/v1/chat/completions"
    assert served(rig) == [shown["id"]]
    folder = rig.adapters / shown["id"]
    # vLLM serves an adapter only where this is the very name of the model that it runs.
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/model"
    assert (folder / "adapter_model.safetensors").read_bytes() == b"package:cor-rait"


def test_a_revision_is_part_of_the_name_that_the_server_loads_the_base_by(rig: Rig) -> None:
    model_folder(rig.models, "tiny/model@v2")
    shown = deploy(rig, finished(rig, base_model={"id": "tiny/model", "revision": "v2"})).json()
    config = json.loads((rig.adapters / shown["id"] / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], shown["base_model"]) == ("tiny/model@v2", "tiny/model")


def test_deploying_twice_is_the_same_as_once(rig: Rig) -> None:
    job_id = finished(rig)
    first = deploy(rig, job_id)
    again = rig.post(f"/craft/jobs/{job_id}/deploy")
    assert (again.status_code, again.json()) == (200, first.json())
    assert event_types(rig, job_id).count("adapter.deployed") == 1


def test_of_many_who_deploy_at_once_all_get_the_same_name(rig: Rig) -> None:
    job_id = finished(rig)
    with ThreadPoolExecutor(4) as pool:
        deployments = list(pool.map(lambda _: rig.deployments.deploy(job_id, Strategy.COR_RAIT), range(4)))
    assert len({deployed.row.id for deployed in deployments}) == 1
    assert [deployed.repeated for deployed in deployments].count(False) == 1
    assert served(rig) == [deployments[0].row.id]


def test_a_job_of_several_adapters_asks_which(rig: Rig) -> None:
    job_id = finished(rig, strategies=TWO)
    problem = deploy(rig, job_id).json()
    assert (problem["status"], problem["param"]) == (422, "strategy")
    assert "cor-rait, van-tuning" in problem["hint"]
    names = [deploy(rig, job_id, strategy=strategy).json()["id"] for strategy in TWO]
    assert served(rig) == sorted(names)
    assert deploy(rig, job_id, strategy="craft").status_code == 404
    assert deploy(rig, job_id, strategy="magic").status_code == 422


def test_what_is_not_packaged_yet_is_a_conflict(rig: Rig) -> None:
    job_id = rig.submit()
    problem = deploy(rig, job_id).json()
    assert (problem["status"], problem["code"]) == (409, "conflict")
    assert "wait" in problem["hint"]
    assert served(rig) == []


def test_an_engine_that_serves_nothing_says_which_setting_does(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        problem = deploy(rig, finished(rig)).json()
        assert (problem["status"], problem["code"]) == (409, "conflict")
        assert "CRAFT_INFERENCE__ENGINE=vllm" in problem["hint"]
        assert rig.get("/v1/models").json()["data"] == []
        assert deploy(rig, UNKNOWN_JOB).status_code == 404


def test_unknown_and_malformed_jobs_are_not_found(rig: Rig) -> None:
    for job_id in (UNKNOWN_JOB, "..%2F..%2Fx", "cjob_x"):
        assert deploy(rig, job_id).status_code == 404
        assert rig.request("DELETE", f"/craft/jobs/{job_id}/deploy?strategy=craft").status_code == 404


def test_a_broken_package_is_not_deployed(rig: Rig) -> None:
    job_id = finished(rig)
    package = rig.store.open(rig.reader.output(job_id, "package:cor-rait"))
    (package / "adapter" / "adapter_config.json").write_text("no json")
    problem = deploy(rig, job_id).json()
    assert (problem["status"], problem["code"]) == (410, "artifact_damaged")
    assert '{"from_stage": "package:cor-rait"}' in problem["hint"]
    assert rig.get("/v1/models").json()["data"] == []
    assert served(rig) == []


def test_a_served_copy_that_was_damaged_is_made_again_before_the_next_reply(rig: Rig) -> None:
    model = deploy(rig, finished(rig)).json()["model"]
    weights = rig.adapters / model / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"?")
    rig.deployments.base_of(model)
    assert weights.read_bytes() == good


class UnwritableDatabase(Database):
    """A database that fails at the next write."""

    @contextmanager
    def write(self) -> Iterator[Session]:
        raise Unavailable("The database does not answer just now.")
        yield


def test_what_could_not_be_remembered_is_not_served(rig: Rig) -> None:
    job_id = finished(rig)
    unwritable = UnwritableDatabase(rig.database.url)
    adapters = ServedAdapters(rig.adapters)
    deployments = Deployments(unwritable, rig.reader, store=rig.store, adapters=adapters, vllm=VllmSettings())
    with pytest.raises(Unavailable):
        deployments.deploy(job_id, Strategy.COR_RAIT)
    unwritable.close()
    assert served(rig) == []


def test_a_lost_volume_is_filled_again_at_the_next_use(rig: Rig) -> None:
    job_id = finished(rig)
    name = deploy(rig, job_id).json()["id"]
    for use in (lambda: rig.deployments.base_of(name), lambda: deploy(rig, job_id)):
        shutil.rmtree(rig.adapters)
        use()
        assert served(rig) == [name]


def test_a_lost_artifact_leaves_what_is_served_alone(rig: Rig) -> None:
    job_id = finished(rig)
    name = deploy(rig, job_id).json()["id"]
    shutil.rmtree(rig.store.open(rig.reader.output(job_id, "package:cor-rait")))
    assert rig.deployments.base_of(name).model.id == "tiny/model"
    assert served(rig) == [name]


def test_a_withdrawn_adapter_is_no_model_any_longer_and_gets_a_new_name(rig: Rig) -> None:
    job_id = finished(rig)
    name = deploy(rig, job_id).json()["id"]
    for _ in range(2):
        answer = rig.request("DELETE", f"/craft/jobs/{job_id}/deploy")
        assert (answer.status_code, answer.content) == (204, b"")
        assert served(rig) == []
    assert rig.get(f"/v1/models/{name}").status_code == 404
    assert deploy(rig, job_id).json()["id"] != name
    assert event_types(rig, job_id)[-4:] == [
        "job.succeeded",
        "adapter.deployed",
        "adapter.withdrawn",
        "adapter.deployed",
    ]


def test_a_stream_of_a_finished_job_tells_of_its_adapter_and_closes(rig: Rig) -> None:
    job_id = finished(rig)
    terminal = len(event_types(rig, job_id))
    name = deploy(rig, job_id).json()["id"]
    for after in (0, terminal):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        stream = rig.get(f"/craft/jobs/{job_id}/events", headers=headers)
        last = json.loads(stream.text.split("data: ")[-1])
        assert (last["type"], last["data"]) == ("adapter.deployed", {"model": name, "strategy": "cor-rait"})
    closed = rig.get(
        f"/craft/jobs/{job_id}/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(terminal + 1)},
    )
    assert closed.status_code == 204


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("rank", {"training": {"lora_r": 65}}, "training.lora_r", "MAX_LORA_RANK"),
    ("rehearsal's rank", {"rehearsal": {"training": {"lora_r": 128}}}, "rehearsal.training.lora_r", "MAX_LORA_RANK"),
    ("the head", {"training": {"target_modules": ["q_proj", "lm_head"]}}, "training.target_modules", "linear"),
    (
        "the embeddings by path",
        {"rehearsal": {"training": {"target_modules": ["model.embed_tokens"]}}},
        "rehearsal.training.target_modules",
        "linear",
    ),
]


@pytest.mark.parametrize(("changes", "param", "hint"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_job_whose_adapter_could_not_be_served_is_refused(
    rig: Rig, changes: dict[str, Any], param: str, hint: str
) -> None:
    for path in ("/craft/jobs", "/craft/jobs/validate"):
        problem = rig.post(path, json=body(**changes)).json()
        assert (problem["status"], problem["code"], problem["param"]) == (422, "request_invalid", param)
        assert hint in problem["hint"]
    assert rig.get("/craft/jobs").json()["data"] == []


def test_names_that_vllm_may_serve_are_the_trainers_business(rig: Rig) -> None:
    fine = body(training={"lora_r": 64, "target_modules": ["q_proj", "mlp.up_proj"]})
    assert rig.post("/craft/jobs/validate", json=fine).status_code == 200


@pytest.mark.parametrize("changes", [c[1] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_an_engine_that_serves_nothing_has_no_such_limits(tmp_path: Path, changes: dict[str, Any]) -> None:
    with open_rig(tmp_path) as rig:
        # Wide enough for each rank, with a head of its own.
        model_folder(rig.models, "wide/model", hidden_size=512, intermediate_size=512, tie_word_embeddings=False)
        asked = body(base_model={"id": "wide/model"}, **changes)
        answer = rig.post("/craft/jobs/validate", json=asked)
        assert answer.status_code == 200, answer.text
