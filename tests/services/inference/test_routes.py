"""The service's REST calls over a fake engine."""

import math
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from craft.contracts.services.inference import GenerateRequest, LettersRequest
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.errors import ContextTooLong, ModelNotFound
from craft.infra.http.app import create_app
from craft_inference.calls import Calls
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine
from craft_inference.routes import GENERATE_EXAMPLES, LETTERS_EXAMPLES, router

MODEL = {"id": "tiny"}


def prompt(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": f"{name}?"}], **more}


def find(model: BaseModelRef) -> ModelRef:
    if model.id != "tiny":
        raise ModelNotFound(f"There is no model {model.id}.")
    return ModelRef(id=model.id, revision=model.revision, digest="0" * 64)


@pytest.fixture
def client() -> TestClient:
    engine = FakeEngine(failures={"long": ContextTooLong("The prompt of long has 9000 tokens.")})
    engines = EngineHolder(lambda *_: engine, lambda ref: Path(ref.id), name="transformers")
    return TestClient(create_app(title="t", service="inference", routers=[router(Calls(engines, find, EngineRef()))]))


def test_generate_gives_every_prompts_samples_in_order(client: TestClient) -> None:
    answer = client.post("/v1/generate", json={"model": MODEL, "prompts": [prompt("b"), prompt("a")], "samples": 2})

    assert answer.status_code == 200
    assert answer.json()["rows"] == [
        {"id": "b", "samples": ["reply 0 to b?", "reply 1 to b?"], "finishes": ["stop", "stop"]},
        {"id": "a", "samples": ["reply 0 to a?", "reply 1 to a?"], "finishes": ["stop", "stop"]},
    ]
    assert answer.json()["usage"]["prompt_tokens"] == 2


def test_letters_come_with_their_mass(client: TestClient) -> None:
    answer = client.post("/v1/letters", json={"model": MODEL, "prompts": [prompt(letters=["A", "B"])]})

    (row,) = answer.json()["rows"]
    assert row["logprobs"] == {"A": -1.0, "B": -2.0}
    assert row["mass"] == pytest.approx(math.exp(-1) + math.exp(-2))


def test_engine_tells_what_is_loaded_after_the_first_call(client: TestClient) -> None:
    assert client.get("/v1/engine").json()["loaded"] is None
    client.post("/v1/generate", json={"model": MODEL, "prompts": [prompt()]})

    view = client.get("/v1/engine").json()
    assert view["loaded"]["id"] == "tiny"
    assert view["limits"]["prompts"] == 1000


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("generate", {"prompts": [prompt()], "samples": 101}, "request_invalid"),
        ("generate", {"prompts": [prompt()], "max_new_tokens": 2049}, "request_invalid"),
        ("generate", {"prompts": []}, "request_invalid"),
        ("generate", {"prompts": [prompt(str(n)) for n in range(201)], "samples": 100}, "request_invalid"),
        ("generate", {"prompts": [prompt()], "adapter": "/etc"}, "request_invalid"),
        ("generate", {"prompts": [prompt("long")]}, "context_too_long"),
        ("generate", {"prompts": [prompt()], "model": {"id": "nowhere"}}, "model_not_found"),
        ("generate", {"prompts": [prompt()], "model": {"id": "../../etc"}}, "request_invalid"),
        ("generate", {"prompts": [{"id": "a", "messages": [{"role": "tool", "content": "x"}]}]}, "request_invalid"),
        ("letters", {"prompts": [prompt(letters=["A"])]}, "request_invalid"),
        ("letters", {"prompts": [prompt(letters=["A", "A"])]}, "request_invalid"),
        ("letters", {"prompts": [prompt(letters=["A", "b"])]}, "request_invalid"),
    ],
)
def test_bad_requests_are_problems(client: TestClient, path: str, body: dict[str, Any], code: str) -> None:
    answer = client.post(f"/v1/{path}", json={"model": MODEL} | body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


def test_the_documented_examples_are_valid() -> None:
    for example in GENERATE_EXAMPLES.values():
        GenerateRequest.model_validate(example["value"])
    for example in LETTERS_EXAMPLES.values():
        LettersRequest.model_validate(example["value"])


def test_openapi_documents_the_problems(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert {"/v1/generate", "/v1/letters", "/v1/engine"} <= paths.keys()
    assert "422" in paths["/v1/generate"]["post"]["responses"]
