"""The real `openai` client calls the gateway over a real socket; a scripted model server answers behind it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import SecretStr
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from craft.contracts.services.model_server import BASE_MODEL_HEADER, ServedBase
from craft.errors import Unavailable
from craft.infra.settings.inference import VllmSettings
from craft_gateway.serving.model_server import HttpModelServer

REFUSAL = "Sorry, I don't know."
QUESTION: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Who wrote it?"}]
WORDS = ["Sorry", ", I", " don't", " know."]


class ScriptedModelServer:
    """Answers in vLLM's form. A stream sends WORDS one by one; with `endless` it goes on for ever."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])
        self.headers: dict[str, str] = {}
        self.busy = False
        self.endless = False
        self.silent = False
        self.hung_up = threading.Event()

    async def chat(self, request: Request) -> Response:
        self.headers = dict(request.headers)
        body = await request.json()
        if self.busy:
            problem = Problem.of(Unavailable("A training stage has the device."))
            return Response(problem.model_dump_json(), 503, {"Retry-After": "9"}, PROBLEM_MEDIA_TYPE)
        if len(body["messages"][0]["content"]) > 100:
            message = "This model's maximum context length is 100 tokens."
            return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": 400}}, 400)
        if self.silent:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.hung_up.set()
        if body.get("stream"):
            return StreamingResponse(self._events(body), media_type="text/event-stream")
        return JSONResponse(completion(body, REFUSAL))

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        try:
            for word in WORDS:
                yield event({**completion(body, None), "choices": [choice(delta={"content": word})]})
            while self.endless:
                yield event({**completion(body, None), "choices": [choice(delta={"content": "!"})]})
                await asyncio.sleep(0.01)
            if (body.get("stream_options") or {}).get("include_usage"):
                yield event({**completion(body, None), "choices": [], "usage": USAGE})
            yield "data: [DONE]\n\n"
        finally:
            self.hung_up.set()


USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


def choice(**members: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, "logprobs": None, **members}


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def completion(body: dict[str, Any], text: str | None) -> dict[str, Any]:
    kind = "chat.completion" if text is not None else "chat.completion.chunk"
    whole = choice(message={"role": "assistant", "content": text}, finish_reason="stop")
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": body["model"],
        "choices": [whole] if text is not None else [],
        **({"usage": USAGE} if text is not None else {}),
    }


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("client"), vllm=VllmSettings()) as rig:
        yield rig


@pytest.fixture(scope="module")
def model(rig: Rig) -> str:
    job_id = rig.submit()
    rig.finish(job_id)
    return str(rig.post(f"/craft/jobs/{job_id}/deploy").json()["model"])


@pytest.fixture
def scripted() -> ScriptedModelServer:
    return ScriptedModelServer()


@pytest.fixture
def gateway_url(rig: Rig, scripted: ScriptedModelServer) -> Iterator[str]:
    with served(scripted.app) as behind:
        rig.model_server = model_server = HttpModelServer(behind, token=SecretStr("sesame"))
        # Closed on the loop that opened its connections, as by the gateway's own lifespan.
        with served(rig.new_app(), closing=model_server.close) as url:
            yield url


@pytest.fixture
def client(gateway_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models_are_listed_and_looked_at(client: OpenAI, model: str) -> None:
    assert [listed.id for listed in client.models.list()] == [model]
    assert client.models.retrieve(model).owned_by == "craft"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("HuggingFaceTB/none")
    assert caught.value.code == "model_not_found"


def test_a_refusal_is_a_reply_like_any_other(client: OpenAI, model: str, scripted: ScriptedModelServer) -> None:
    reply = client.chat.completions.create(model=model, messages=QUESTION, max_completion_tokens=9, temperature=0, n=1)
    assert reply.choices[0].message.content == REFUSAL
    assert reply.choices[0].message.refusal is None
    assert (reply.model, reply.choices[0].finish_reason) == (model, "stop")
    assert reply.usage is not None
    assert reply.usage.total_tokens == 9
    assert scripted.headers["authorization"] == "Bearer sesame"
    base = ServedBase.model_validate_json(scripted.headers[BASE_MODEL_HEADER.lower()])
    assert (base.model.id, base.dtype) == ("tiny/model", "bfloat16")


def test_a_stream_comes_in_its_pieces(client: OpenAI, model: str) -> None:
    with client.chat.completions.create(
        model=model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == WORDS
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


def test_an_unknown_model_is_openais_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id


@pytest.mark.parametrize(
    ("extra", "param"), [({"tools": []}, "tools"), ({"n": 9}, "n"), ({"max_tokens": 0}, "max_tokens")]
)
def test_a_bad_member_is_openais_bad_request_error(
    client: OpenAI, model: str, extra: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, extra_body=extra)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


def test_a_prompt_that_is_too_long_is_openais_bad_request_error(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x" * 101}])
    assert caught.value.code == "context_length_exceeded"


def test_a_busy_device_is_openais_server_error_with_a_time_to_wait(
    client: OpenAI, model: str, scripted: ScriptedModelServer
) -> None:
    scripted.busy = True
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, stream=True)
    assert (caught.value.status_code, caught.value.code) == (503, "unavailable")
    assert caught.value.response.headers["retry-after"] == "9"
    assert "training stage" in caught.value.message


def test_a_model_server_that_is_not_there_is_openais_server_error(rig: Rig, model: str) -> None:
    rig.model_server = HttpModelServer("http://127.0.0.1:9", token=SecretStr("sesame"))
    with served(rig.new_app()) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=model, messages=QUESTION)
        assert caught.value.status_code == 503


def test_who_stops_reading_a_stream_stops_the_generation(
    client: OpenAI, model: str, scripted: ScriptedModelServer
) -> None:
    scripted.endless = True
    with client.chat.completions.create(model=model, messages=QUESTION, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content == "Sorry"
        assert not scripted.hung_up.is_set()
    assert scripted.hung_up.wait(10)


def test_who_does_not_wait_for_a_reply_stops_the_generation(
    gateway_url: str, model: str, scripted: ScriptedModelServer
) -> None:
    scripted.silent = True
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{gateway_url}/v1/chat/completions", json={"model": model, "messages": QUESTION}, timeout=3.0)
    assert scripted.hung_up.wait(30)
