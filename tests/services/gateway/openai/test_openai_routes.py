"""/v1: bounded bodies, the request that the model server gets, and every error in OpenAI's envelope."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from pydantic import SecretStr
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.contracts.openai.chat import ChatRequest
from craft.contracts.problems import Problem
from craft.contracts.services.model_server import ServedBase
from craft.contracts.stages.parameters import ModelRef
from craft.errors import GpuOutOfMemory, ModelRejected, Unavailable
from craft.infra.settings.inference import VllmSettings
from craft_gateway.openai.examples import CHAT_EXAMPLES
from craft_gateway.openai.routes_chat import MAX_CHAT_BYTES
from craft_gateway.serving.model_server import HttpModelServer
from craft_gateway.serving.model_server_fake import FakeModelServer

UNKNOWN = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
BASE = ServedBase(model=ModelRef(id="tiny/model", revision="main", digest="0" * 64), dtype="bfloat16")
QUESTION = [{"role": "user", "content": "Who wrote it?"}]


class Serving(NamedTuple):
    """A rig with one deployed adapter and a new model server for each test."""

    rig: Rig
    model: str
    server: FakeModelServer

    def chat(self, **changes: Any) -> httpx.Response:
        return self.rig.post("/v1/chat/completions", json={"model": self.model, "messages": QUESTION, **changes})


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, str]]:
    with open_rig(tmp_path_factory.mktemp("serving"), vllm=VllmSettings()) as rig:
        job_id = rig.submit()
        rig.finish(job_id)
        yield rig, rig.post(f"/craft/jobs/{job_id}/deploy").json()["model"]


@pytest.fixture
def serving(deployed: tuple[Rig, str]) -> Serving:
    rig, model = deployed
    server = FakeModelServer()
    rig.model_server = server
    rig.let_seeds(through=True)
    rig.app = rig.new_app()
    return Serving(rig, model, server)


def error(answer: httpx.Response) -> dict[str, Any]:
    """Return the envelope's only member."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    (member,) = answer.json().values()
    assert list(member) == ["message", "type", "param", "code"]
    return dict(member)


def test_a_deployed_adapter_is_listed_as_a_model(serving: Serving) -> None:
    listed = serving.rig.get("/v1/models").json()
    (model,) = listed["data"]
    assert listed["object"] == "list"
    assert (model["id"], model["object"], model["owned_by"], model["parent"]) == (
        serving.model,
        "model",
        "craft",
        "tiny/model",
    )
    assert model["created"] > 1_700_000_000
    assert serving.rig.get(f"/v1/models/{serving.model}").json() == model


def test_the_model_server_gets_the_request_and_the_base_model(serving: Serving) -> None:
    serving.server.body = {"object": "chat.completion", "choices": [{"message": {"content": "Sorry, I don't know."}}]}
    answer = serving.chat(n=2, max_tokens=9, temperature=0, stop=["\n"], seed=3, user="somebody", top_p=None)
    assert answer.json() == serving.server.body
    ((sent, base),) = serving.server.requests
    assert sent == {
        "model": serving.model,
        "messages": QUESTION,
        "n": 2,
        "max_tokens": 9,
        "temperature": 0.0,
        "stop": ["\n"],
        "seed": 3,
    }
    assert (base.model.id, base.dtype) == ("tiny/model", "bfloat16")
    assert serving.server.closed == 1


def test_a_seed_is_kept_from_a_server_that_cannot_bear_it(serving: Serving) -> None:
    serving.rig.let_seeds(through=False)
    serving.rig.app = serving.rig.new_app()
    assert serving.chat(seed=3).status_code == 200
    assert "seed" not in serving.server.requests[0][0]


def test_a_stream_passes_byte_for_byte(serving: Serving) -> None:
    serving.server.media_type = "text/event-stream; charset=utf-8"
    serving.server.chunks = [b'data: {"a"', b': "\xc3', b'\xa9"}\n\nda', b"ta: [DONE]\n\n"]
    answer = serving.chat(stream=True)
    assert answer.content == b"".join(serving.server.chunks)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert serving.server.closed == 1


def test_a_stream_that_breaks_between_events_ends_with_an_error_event(serving: Serving) -> None:
    serving.server.media_type = "text/event-stream"
    serving.server.chunks, serving.server.breaks = [b"data: {}\n", b"\n"], True
    first, last, rest = serving.chat(stream=True).text.split("\n\n")
    assert (first, rest) == ("data: {}", "")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": []}, "tools", "unknown_parameter"),
    ({"chat_template": "x"}, "chat_template", "unknown_parameter"),
    ({"lora_path": "/etc"}, "lora_path", "unknown_parameter"),
    ({"n": 9}, "n", "invalid_value"),
    ({"max_tokens": 4096}, "max_tokens", "invalid_value"),
    ({"stop": ["a", ""]}, "stop", "invalid_value"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content", "invalid_value"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "invalid_value"),
    ({"messages": [{"content": "x"}]}, "messages.0.role", "missing_required_parameter"),
]


@pytest.mark.parametrize(("changes", "param", "code"), REFUSED, ids=[case[1] for case in REFUSED])
def test_a_body_of_another_form_names_the_member(
    serving: Serving, changes: dict[str, Any], param: str, code: str
) -> None:
    answer = serving.chat(**changes)
    member = error(answer)
    assert (answer.status_code, member["type"], member["param"], member["code"]) == (
        400,
        "invalid_request_error",
        param,
        code,
    )
    assert member["message"].startswith(f"{param}: ")
    assert serving.server.requests == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "\xff"}', 400),
        (b'{"model": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b'{"n": ' + b"9" * 5000 + b"}", 400),
        (b" " * (MAX_CHAT_BYTES + 1), 413),
    ],
    ids=["nothing", "half", "a list", "not UTF-8", "a lone surrogate", "deeply nested", "huge number", "too large"],
)
def test_a_body_that_is_no_request_is_an_error_in_the_envelope(serving: Serving, content: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = serving.rig.post("/v1/chat/completions", content=content, headers=headers)
    assert (answer.status_code, error(answer)["type"]) == (status, "invalid_request_error")


def test_what_no_route_takes_is_an_error_in_the_envelope_too(serving: Serving) -> None:
    length = {"content-length": str(2**40)}
    answer = serving.rig.post("/v1/files", content=b"", headers=length)
    assert (answer.status_code, error(answer)["type"]) == (413, "invalid_request_error")
    assert answer.headers["connection"] == "close"
    ours = serving.rig.post("/v1/craft/datasets", content=b"", headers=length)
    assert (ours.status_code, ours.json()["code"]) == (413, "payload_too_large")


def test_a_chat_that_is_too_large_is_not_sent_to_upload_rows(serving: Serving) -> None:
    answer = serving.rig.post("/v1/chat/completions", content=b" " * (MAX_CHAT_BYTES + 1))
    assert error(answer)["message"].endswith("bytes. Send less.")


@pytest.mark.parametrize("model", [UNKNOWN, "tiny/model", "../adpt", "adpt_x\n", "gpt-4o"])
def test_an_unknown_model_is_not_found(serving: Serving, model: str) -> None:
    answer = serving.chat(model=model)
    assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")
    assert serving.server.requests == []


def test_unknown_models_are_not_found_by_name_either(serving: Serving) -> None:
    for name in (UNKNOWN, "owner/name", "..%2F..%2Fetc"):
        answer = serving.rig.get(f"/v1/models/{name}")
        assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")


def test_an_installation_without_vllm_says_so(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        answer = rig.post("/v1/chat/completions", json={"model": UNKNOWN, "messages": QUESTION})
        assert answer.status_code == 404
        assert "CRAFT_INFERENCE__ENGINE=vllm" in error(answer)["message"]


def test_a_model_server_that_is_away_is_worth_another_try(serving: Serving) -> None:
    serving.server.down = True
    answer = serving.chat()
    assert (answer.status_code, error(answer)["type"]) == (503, "server_error")
    assert int(answer.headers["retry-after"]) > 0


TOO_LONG = "This model's maximum context length is 512 tokens. However, you requested 600 tokens."
UPSTREAM: list[tuple[str, int, object, int, str]] = [
    ("busy", 503, Problem.of(Unavailable("A training stage has the device.")), 503, "unavailable"),
    ("out of memory", 503, Problem.of(GpuOutOfMemory("It does not fit.")), 503, "gpu_oom"),
    ("model gone", 422, Problem.of(ModelRejected("It has no weights.")), 500, "model_unsupported"),
    ("too long", 400, {"error": {"message": TOO_LONG, "code": 400}}, 400, "context_length_exceeded"),
    ("too long, bare", 400, {"message": TOO_LONG, "code": 400}, 400, "context_length_exceeded"),
    ("refused", 400, {"error": {"message": "n must be 1.", "param": "n"}}, 400, "invalid_value"),
    ("unknown there", 404, {"error": {"message": "The model does not exist."}}, 404, "model_not_found"),
    ("crowded", 429, {"error": {"message": "Later."}}, 429, "rate_limit_exceeded"),
    ("wrong token", 401, {"error": {"message": "Unauthorized"}}, 503, "unavailable"),
    ("vLLM fails", 500, {"error": {"message": "EngineDeadError"}}, 503, "unavailable"),
    ("a proxy's page", 502, "<html>", 503, "unavailable"),
    ("no message", 400, {"error": {"code": 400}}, 503, "unavailable"),
]


@pytest.mark.parametrize(("status", "body", "shown", "code"), [c[1:] for c in UPSTREAM], ids=[c[0] for c in UPSTREAM])
def test_what_fails_behind_comes_out_in_one_form(
    serving: Serving, status: int, body: object, shown: int, code: str
) -> None:
    serving.server.status = status
    serving.server.body = body.model_dump(mode="json") if isinstance(body, Problem) else body
    serving.server.retry_after = "17"
    answer = serving.chat(stream=True)
    member = error(answer)
    assert (answer.status_code, member["code"]) == (shown, code)
    assert member["type"] == {503: "server_error", 500: "server_error", 429: "rate_limit_error"}.get(
        shown, "invalid_request_error"
    )
    assert ("retry-after" in answer.headers) == (shown in {429, 503})
    assert serving.server.closed == 1


def test_only_these_routes_speak_openais_errors(serving: Serving) -> None:
    for path in ("/craft/jobs/x", "/v1/craft/jobs/x"):
        assert serving.rig.get(path).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/models", "GET, HEAD"), ("/v1/files", "GET, HEAD, POST"), ("/v1/fine_tuning/jobs/ftjob-x/cancel", "POST")],
)
def test_a_path_says_which_methods_it_takes(serving: Serving, path: str, allowed: str) -> None:
    answer = serving.rig.request("TRACE", path)
    assert (answer.status_code, answer.headers.get("allow")) == (405, allowed)
    assert answer.json()["error"]["code"] == "unknown_url"


def test_the_documented_examples_are_requests(serving: Serving) -> None:
    for example in CHAT_EXAMPLES.values():
        ChatRequest.model_validate(example["value"])
        assert serving.chat(**{**example["value"], "model": serving.model}).status_code == 200


def test_when_to_try_again_is_the_model_servers_own_word(serving: Serving) -> None:
    serving.server.status, serving.server.retry_after = 503, "17"
    serving.server.body = Problem.of(Unavailable("It loads.")).model_dump(mode="json")
    assert serving.chat().headers["retry-after"] == "17"


def test_a_stream_that_breaks_within_an_event_is_cut(serving: Serving) -> None:
    serving.server.media_type = "text/event-stream"
    serving.server.chunks, serving.server.breaks = [b'data: {"half'], True
    # A client would read any further text as the rest of that event.
    assert serving.chat(stream=True).content == b'data: {"half'
    assert serving.server.closed == 1


def test_of_an_error_only_the_start_is_read(serving: Serving) -> None:
    serving.server.status = 400
    serving.server.chunks = [b'{"error": "', *[b"x" * 2**16] * 3]
    serving.server.breaks = True
    assert (serving.chat().status_code, serving.server.closed) == (503, 1)


@pytest.mark.parametrize("breaks_at", ["the start", "the body"])
def test_a_connection_that_breaks_is_a_server_that_does_not_answer(breaks_at: str) -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise httpx.ReadError("reset")

    def server(request: httpx.Request) -> httpx.Response:
        if breaks_at == "the start":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, stream=Broken())

    async def ask() -> bytes:
        client = HttpModelServer("http://behind", token=SecretStr("t"), transport=httpx.MockTransport(server))
        try:
            reply = await client.chat(b"{}", base=BASE)
            return b"".join([chunk async for chunk in reply.chunks])
        finally:
            await client.close()

    with pytest.raises(Unavailable):
        asyncio.run(ask())
