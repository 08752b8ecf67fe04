"""Estimates agree with real training, and recipes are valid; both also over HTTP."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from peft import LoraConfig

from craft.contracts.services.training import TrainingEstimate, TrainingEstimateRequest
from craft.contracts.spec.jobs import BaseModelRef, TrainingSettings
from craft.infra.http.app import create_app
from craft.infra.models.folders import ModelFolders
from craft.infra.models.shape import read_shape
from craft_training.base_models import BaseModel, adapted
from craft_training.estimates import estimate
from craft_training.recipes import RECIPES
from craft_training.routes import router
from craft_training.tuning.throughput import KnownThroughput, ThroughputFile

Ask = Callable[..., TrainingEstimate]


@pytest.fixture
def ask(folders: ModelFolders) -> Ask:
    shape = read_shape(folders.find("tests/tiny").path)

    def make(
        *, rows: int = 100, tokens: int = 50, measured: float | None = None, **settings: object
    ) -> TrainingEstimate:
        request = TrainingEstimateRequest(
            model=BaseModelRef(id="tests/tiny"),
            rows=rows,
            tokens_per_row=tokens,
            training=TrainingSettings.model_validate(settings),
        )
        return estimate(request, shape, device="cpu", weight_bytes=2, measured_flops=measured)

    return make


@pytest.fixture
def client(folders: ModelFolders) -> TestClient:
    routes = router(folders, KnownThroughput(1e9), device="cpu", weight_bytes=4)
    return TestClient(create_app(title="training", service="training", routers=[routes]))


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "down_proj"]])
def test_trainable_parameters_are_those_that_peft_makes(base: BaseModel, ask: Ask, modules: str | list[str]) -> None:
    with adapted(base, LoraConfig(r=8, target_modules=modules, task_type="CAUSAL_LM")) as model:
        made, _ = model.get_nb_trainable_parameters()
    assert ask(lora_r=8, target_modules=modules).trainable_parameters == made


def test_all_parameters_are_counted_once(base: BaseModel, folders: ModelFolders) -> None:
    shape = read_shape(folders.find("tests/tiny").path)
    assert shape.parameters == sum(parameter.numel() for parameter in base.model.parameters())


def test_steps_and_tokens(ask: Ask) -> None:
    found = ask(rows=100, tokens=50, epochs=3, batch_size=16)
    assert found.steps == 21
    assert found.trained_tokens == 15_000


def test_a_measured_speed_replaces_the_assumed_one(ask: Ask) -> None:
    assumed, measured = ask(), ask(measured=1e6)
    assert assumed.speed == "assumed"
    assert measured.speed == "measured"
    assert measured.seconds > assumed.seconds
    assert ask(rows=200, measured=1e6).seconds == pytest.approx(2 * measured.seconds, rel=1e-3)


def test_notes_name_what_would_fail(ask: Ask) -> None:
    assert ask().notes == []
    assert "fewer than min_steps (99)" in ask(min_steps=99).notes[0]
    assert "longer than the 64 allowed" in ask(tokens=65, max_length=64).notes[0]
    assert "longer than the 2048 allowed" in ask(tokens=3000, max_length=4000).notes[0]
    assert "target_modules" in ask(target_modules=["nothing"]).notes[0]


def test_memory_grows_with_the_batch_but_not_beyond_one_pass(ask: Ask) -> None:
    small, large, huge = (ask(rows=2000, batch_size=size).memory_bytes for size in (1, 64, 1024))
    assert small < large
    assert huge < 2 * large


def test_recipes_over_http(client: TestClient) -> None:
    body = client.get("/v1/recipes").raise_for_status().json()
    assert body["object"] == "list"
    assert [recipe["name"] for recipe in body["data"]] == [recipe.name for recipe in RECIPES]
    paper = body["data"][0]["training"]
    assert (paper["lora_r"], paper["lora_alpha"], paper["lora_dropout"]) == (64, 16, 0.1)


def test_estimate_over_http(client: TestClient) -> None:
    body = {"model": {"id": "tests/tiny"}, "rows": 10, "tokens_per_row": 20, "training": {"lora_r": 4}}
    answer = client.post("/v1/estimate", json=body).raise_for_status().json()
    assert answer["steps"] == 3
    assert answer["speed"] == "measured"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": {"id": "no/such"}}, 422, "model_not_found"),
        ({"model": {"id": "../../etc"}}, 422, "request_invalid"),
        ({"rows": 0}, 422, "request_invalid"),
        ({"training": {"lora_rank": 4}}, 422, "request_invalid"),
    ],
)
def test_a_wrong_estimate_request_is_a_problem(
    client: TestClient, change: dict[str, object], status: int, code: str
) -> None:
    body = {"model": {"id": "tests/tiny"}, "rows": 10, "tokens_per_row": 20, **change}
    answer = client.post("/v1/estimate", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


def test_the_measured_speed_survives_in_its_file(tmp_path: Path) -> None:
    file = ThroughputFile(tmp_path / "training" / "throughput.json")
    assert file.read() is None
    file.write(2.5e9)
    assert ThroughputFile(tmp_path / "training" / "throughput.json").read() == 2.5e9
    (tmp_path / "training" / "throughput.json").write_text("no number")
    assert file.read() is None


def test_a_speed_that_cannot_be_kept_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ThroughputFile(tmp_path / "file" / "throughput.json").write(1.0)
