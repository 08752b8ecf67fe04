"""The engine's side of the model server: what a session does when things are lost, and what vLLM's errors mean."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest
from pydantic import SecretStr
from tests.services.inference.stages.supervised import base, in_a_loop

from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from craft.contracts.services.model_server import LEASE_HEADER, ModelLease, ServedTokens
from craft.errors import (
    ContextTooLong,
    CraftError,
    DeviceBusy,
    GpuOutOfMemory,
    Internal,
    ModelRejected,
    NotFound,
    Unavailable,
)
from craft_inference.vllm.client import Question, ServerAccess, lease_model

QUESTION = Question("q7", {"prompt": [1, 2], "n": 3})
ACCESS = ServerAccess("http://server", SecretStr("sesame"), has_turn=True, patience_seconds=20.0, pause_seconds=0.0)
Step = CraftError | httpx.TransportError | httpx.Response


def said(status: int, message: str) -> httpx.Response:
    """An error in vLLM's own form."""
    return httpx.Response(status, json={"error": {"message": message, "type": "BadRequestError", "code": status}})


def problem(error: CraftError) -> httpx.Response:
    body = Problem.of(error).model_dump_json()
    return httpx.Response(error.status, text=body, headers={"content-type": PROBLEM_MEDIA_TYPE})


@dataclass
class ModelServer:
    """Plays one: each completion and each hold first takes the next of the planned steps, if one is left."""

    completions: list[Step] = field(default_factory=list)
    holds: list[Step] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    let_go: list[str] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)
    tokens: Callable[[], httpx.Response] = lambda: httpx.Response(200, json={"prompt": 9, "cached": 4})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        match request.method, request.url.path:
            case "POST", "/v1/holds":
                if self.holds:
                    return self._step(self.holds.pop(0))
                self.taken.append(f"hold_{len(self.taken)}")
                return httpx.Response(200, json=ModelLease(id=self.taken[-1], version="9").model_dump())
            case "DELETE", path:
                self.let_go.append(path.rpartition("/")[2])
                return httpx.Response(200, json={})
            case "GET", "/v1/tokens":
                return self.tokens()
        if self.completions:
            return self._step(self.completions.pop(0))
        if request.headers[LEASE_HEADER] in self.let_go:
            return problem(NotFound("no such hold"))
        return httpx.Response(200, json={"hold": request.headers[LEASE_HEADER], "body": json.loads(request.content)})

    def _step(self, step: Step) -> httpx.Response:
        if isinstance(step, CraftError):
            return problem(step)
        if isinstance(step, httpx.Response):
            return step
        raise step

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)


@in_a_loop
async def test_a_session_holds_asks_and_lets_go() -> None:
    server = ModelServer()
    async with lease_model(ACCESS, base(), transport=server.transport) as session:
        assert session.version == "9"
        answer = await session.complete(QUESTION, "team/a")
        assert await session.tokens() == ServedTokens(prompt=9, cached=4)
    assert answer == {"hold": "hold_0", "body": {"model": "team/a", "prompt": [1, 2], "n": 3}}
    assert (server.taken, server.let_go) == (["hold_0"], ["hold_0"])
    assert {request.headers["authorization"] for request in server.asked} == {"Bearer sesame"}
    assert json.loads(server.asked[0].content) == {"base": base().model_dump(mode="json"), "has_turn": True}


@in_a_loop
async def test_a_session_lets_go_where_its_block_fails() -> None:
    server = ModelServer()
    with pytest.raises(ZeroDivisionError):
        async with lease_model(ACCESS, base(), transport=server.transport):
            raise ZeroDivisionError
    assert server.let_go == ["hold_0"]


LOST = [Unavailable("vLLM did not answer"), NotFound("no such hold"), httpx.ReadError("cut"), said(500, "EngineDead")]


@pytest.mark.parametrize("loss", LOST, ids=lambda loss: type(loss).__name__)
def test_a_question_is_asked_again_after_each_of_two_losses(loss: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[loss, loss])
        async with lease_model(ACCESS, base(), transport=server.transport) as session:
            assert (await session.complete(QUESTION, "team/a"))["hold"] == "hold_2"
        # No hold is left behind, to keep the model in use for a minute.
        assert sorted(server.let_go) == server.taken

    scenario()


@pytest.mark.parametrize("loss", LOST, ids=lambda loss: type(loss).__name__)
def test_a_question_that_is_lost_five_times_is_given_up(loss: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[loss] * 5)
        with pytest.raises(Unavailable, match=r"lost 5 times .* q7"):
            async with lease_model(ACCESS, base(), transport=server.transport) as session:
                await session.complete(QUESTION, "team/a")
        assert not server.completions

    scenario()


@in_a_loop
async def test_losses_count_for_each_question_by_itself() -> None:
    server = ModelServer(completions=[Unavailable("a"), Unavailable("b")])
    async with lease_model(ACCESS, base(), transport=server.transport) as session:
        await session.complete(QUESTION, "team/a")
        server.completions = [Unavailable("c"), Unavailable("d")]
        await session.complete(QUESTION, "team/a")


@in_a_loop
async def test_all_questions_that_were_lost_together_share_one_new_hold() -> None:
    server = ModelServer(completions=[Unavailable("lost")] * 20)
    async with lease_model(ACCESS, base(), transport=server.transport) as session:
        answers = await asyncio.gather(*(session.complete(QUESTION, "team/a") for _ in range(20)))
    assert {answer["hold"] for answer in answers} == {"hold_1"}
    assert server.taken == server.let_go == ["hold_0", "hold_1"]


@pytest.mark.parametrize("busy", [DeviceBusy("training"), httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_busy_device_and_a_server_that_is_not_there_yet_are_waited_for(busy: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(holds=[busy] * 10)
        async with lease_model(ACCESS, base(), transport=server.transport) as session:
            await session.complete(QUESTION, "team/a")

    scenario()


@pytest.mark.parametrize(
    ("busy", "expected"), [(DeviceBusy("training"), DeviceBusy), (httpx.ConnectError("refused"), Unavailable)]
)
def test_patience_ends(busy: Step, expected: type[CraftError]) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(holds=[busy] * 1000)
        short = ServerAccess(ACCESS.url, ACCESS.token, has_turn=False, patience_seconds=0.01, pause_seconds=0.001)
        with pytest.raises(expected) as caught:
            async with lease_model(short, base(), transport=server.transport):
                pass
        assert type(caught.value) is expected
        assert server.taken == server.let_go == []

    scenario()


@in_a_loop
async def test_a_server_that_does_not_start_is_tried_three_times() -> None:
    server = ModelServer(holds=[Unavailable("not ready within 900 seconds"), httpx.ReadError("cut")])
    async with lease_model(ACCESS, base(), transport=server.transport):
        pass
    server = ModelServer(holds=[Unavailable("not ready within 900 seconds")] * 3)
    with pytest.raises(Unavailable, match="not ready within 900 seconds"):
        async with lease_model(ACCESS, base(), transport=server.transport):
            pass
    assert not server.holds


@pytest.mark.parametrize("error", [GpuOutOfMemory("no room", hint="less"), ModelRejected("unknown kind")])
def test_what_no_second_try_mends_is_raised_at_once(error: CraftError) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(holds=[error])
        with pytest.raises(type(error), match=error.message) as caught:
            async with lease_model(ACCESS, base(), transport=server.transport):
                pass
        assert caught.value.hint == error.hint
        assert len(server.asked) == 1

    scenario()


@in_a_loop
async def test_a_wrong_token_is_our_own_fault() -> None:
    server = ModelServer(holds=[httpx.Response(401)])
    with pytest.raises(Internal, match="token") as caught:
        async with lease_model(ACCESS, base(), transport=server.transport):
            pass
    assert caught.value.hint is not None
    assert "CRAFT_MODEL_SERVER_TOKEN" in caught.value.hint


@in_a_loop
async def test_why_a_hold_cannot_be_had_again_ends_the_question() -> None:
    server = ModelServer(completions=[NotFound("no such hold")])
    async with lease_model(ACCESS, base(), transport=server.transport) as session:
        server.holds = [GpuOutOfMemory("no room")]
        with pytest.raises(GpuOutOfMemory):
            await session.complete(QUESTION, "team/a")
    assert server.let_go == ["hold_0"]


@pytest.mark.parametrize(
    ("answer", "expected", "param"),
    [
        (said(404, "The model `stage-1` does not exist."), ModelRejected, "adapter"),
        (
            said(400, "Failed to load LoRA 'stage-1': LoRA rank 128 is greater than max_lora_rank 64."),
            ModelRejected,
            None,
        ),
        (
            said(400, "This model's maximum context length is 512 tokens. However, you requested 600"),
            ContextTooLong,
            None,
        ),
        (said(400, "prompt is longer than max_model_len"), ContextTooLong, "messages"),
        (said(400, "logprob_token_ids: unexpected"), Internal, None),
        (httpx.Response(400, text="<html>" + "x" * 10_000), Internal, None),
        (httpx.Response(422, json=["no", "envelope"]), Internal, None),
        (problem(ModelRejected("ours", param="model")), ModelRejected, "model"),
    ],
)
def test_a_refusal_is_told_once_and_by_its_kind(
    answer: httpx.Response, expected: type[CraftError], param: str | None
) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[answer])
        with pytest.raises(expected) as caught:
            async with lease_model(ACCESS, base(), transport=server.transport) as session:
                await session.complete(QUESTION, "stage-1")
        assert type(caught.value) is expected
        assert param is None or caught.value.param == param
        assert len(caught.value.message) < 1000
        if expected is ContextTooLong:
            assert "q7" in caught.value.message
        assert server.taken == ["hold_0"]

    scenario()


@pytest.mark.parametrize(
    "answer", [problem(Unavailable("vLLM is not running.")), httpx.Response(200, text="<html>"), httpx.Response(500)]
)
def test_counters_that_are_not_told_are_none(answer: httpx.Response) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(tokens=lambda: answer)
        async with lease_model(ACCESS, base(), transport=server.transport) as session:
            assert await session.tokens() is None

    scenario()


@in_a_loop
async def test_a_model_server_that_is_gone_at_the_end_spoils_nothing() -> None:
    server = ModelServer()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            raise httpx.ConnectError("refused")
        return server(request)

    async with lease_model(ACCESS, base(), transport=httpx.MockTransport(answer)) as session:
        assert await session.complete(QUESTION, "team/a")
