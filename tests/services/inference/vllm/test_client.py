"""The model server's client: a session after losses, and the stage's errors for vLLM's errors."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.services.inference.rigs.supervisor_rig import base, in_a_loop

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
    ServerUnsuitable,
    Unavailable,
)
from craft_inference.vllm.client import CompletionRequest, ServerAccess, VllmSession, lease_model

REQUEST = CompletionRequest("q7", {"prompt": [1, 2], "n": 3})
ACCESS = ServerAccess("http://server", SecretStr("sesame"), has_device=True, wait_seconds=20.0, pause_seconds=0.0)
Step = CraftError | httpx.TransportError | httpx.Response


def error_of_vllm(status: int, message: str) -> httpx.Response:
    """An error in vLLM's own form."""
    return httpx.Response(status, json={"error": {"message": message, "type": "BadRequestError", "code": status}})


def problem(error: CraftError) -> httpx.Response:
    body = Problem.of(error).model_dump_json()
    return httpx.Response(error.status, text=body, headers={"content-type": PROBLEM_MEDIA_TYPE})


async def unchecked(session: VllmSession) -> None:
    """No server is the team's own here."""


@dataclass
class ModelServer:
    """A fake: each completion and each lease first takes the next of the planned steps, if one is left."""

    completions: list[Step] = field(default_factory=list)
    leases: list[Step] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    attached: bool = False
    tokens: Callable[[], httpx.Response] = lambda: httpx.Response(200, json={"prompt": 9, "cached": 4})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        match request.method, request.url.path:
            case "POST", "/v1/leases":
                if self.leases:
                    return self._step(self.leases.pop(0))
                self.taken.append(f"lease_{len(self.taken)}")
                return httpx.Response(200, json=self._lease())
            case "DELETE", path:
                self.ended.append(path.rpartition("/")[2])
                return httpx.Response(200, json={})
            case "POST", "/v1/tokenize":
                return httpx.Response(200, json={"tokens": [7]})
            case "GET", "/v1/tokens":
                return self.tokens()
        if self.completions:
            return self._step(self.completions.pop(0))
        if request.headers[LEASE_HEADER] in self.ended:
            return problem(NotFound("no such lease"))
        return httpx.Response(200, json={"lease": request.headers[LEASE_HEADER], "body": json.loads(request.content)})

    def _lease(self) -> dict[str, Any]:
        lease = ModelLease(id=self.taken[-1], version="9", context_length=512, attached=self.attached)
        return lease.model_dump()

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
async def test_a_session_leases_asks_and_ends_its_lease() -> None:
    server = ModelServer()
    async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
        assert session.version == "9"
        answer = await session.complete(REQUEST, "team/a")
        assert await session.tokens() == ServedTokens(prompt=9, cached=4)
    assert answer == {"lease": "lease_0", "body": {"model": "team/a", "prompt": [1, 2], "n": 3}}
    assert (server.taken, server.ended) == (["lease_0"], ["lease_0"])
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sesame"}
    assert json.loads(server.requests[0].content) == {
        "base": base().model_dump(mode="json"),
        "has_device": True,
        "context_tokens": None,
    }


@pytest.mark.parametrize("end", ["abort", "error", "repetition", None])
def test_a_reply_that_was_aborted_is_asked_for_again_and_never_taken_for_a_short_one(end: str | None) -> None:
    """A reader that knows "length" alone takes every other end for a reply that stopped by itself."""

    @in_a_loop
    async def scenario() -> None:
        def response(*ends: str | None) -> httpx.Response:
            return httpx.Response(200, json={"choices": [{"text": "as far", "finish_reason": each} for each in ends]})

        server = ModelServer(completions=[response("stop", end), response("stop", "length")])
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
            answer = await session.complete(REQUEST, "team/a")
        assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "length"]

    scenario()


@in_a_loop
async def test_a_session_ends_its_lease_where_its_block_fails() -> None:
    server = ModelServer()
    with pytest.raises(ZeroDivisionError):
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport):
            raise ZeroDivisionError
    assert server.ended == ["lease_0"]


LOST = [
    Unavailable("vLLM did not answer"),
    NotFound("no such lease"),
    httpx.ReadError("cut"),
    error_of_vllm(500, "EngineDead"),
]


@pytest.mark.parametrize("loss", LOST, ids=lambda loss: type(loss).__name__)
def test_a_request_is_sent_again_after_each_of_two_losses(loss: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[loss, loss])
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
            assert (await session.complete(REQUEST, "team/a"))["lease"] == "lease_2"
        # No lease is left behind that would keep the model in use for a minute.
        assert sorted(server.ended) == server.taken

    scenario()


@pytest.mark.parametrize("loss", LOST, ids=lambda loss: type(loss).__name__)
def test_a_request_that_is_lost_five_times_is_given_up(loss: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[loss] * 5)
        with pytest.raises(Unavailable, match=r"lost 5 times .* q7"):
            async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
                await session.complete(REQUEST, "team/a")
        assert not server.completions

    scenario()


@in_a_loop
async def test_losses_count_for_each_request_by_itself() -> None:
    server = ModelServer(completions=[Unavailable("a"), Unavailable("b")])
    async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
        await session.complete(REQUEST, "team/a")
        server.completions = [Unavailable("c"), Unavailable("d")]
        await session.complete(REQUEST, "team/a")


@in_a_loop
async def test_all_requests_that_were_lost_together_share_one_new_lease() -> None:
    server = ModelServer(completions=[Unavailable("lost")] * 20)
    async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
        answers = await asyncio.gather(*(session.complete(REQUEST, "team/a") for _ in range(20)))
    assert {answer["lease"] for answer in answers} == {"lease_1"}
    assert server.taken == server.ended == ["lease_0", "lease_1"]


@pytest.mark.parametrize("busy", [DeviceBusy("training"), httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_busy_device_and_a_server_that_is_not_there_yet_are_waited_for(busy: Step) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(leases=[busy] * 10)
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
            await session.complete(REQUEST, "team/a")

    scenario()


@pytest.mark.parametrize(
    ("busy", "expected"), [(DeviceBusy("training"), DeviceBusy), (httpx.ConnectError("refused"), Unavailable)]
)
def test_the_wait_ends(busy: Step, expected: type[CraftError]) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(leases=[busy] * 1000)
        short = ServerAccess(ACCESS.url, ACCESS.token, has_device=False, wait_seconds=0.01, pause_seconds=0.001)
        with pytest.raises(expected) as caught:
            async with lease_model(short, base(), None, unchecked, transport=server.transport):
                pass
        assert type(caught.value) is expected
        assert server.taken == server.ended == []

    scenario()


@in_a_loop
async def test_a_server_that_does_not_start_is_tried_three_times() -> None:
    server = ModelServer(leases=[Unavailable("not ready within 900 seconds"), httpx.ReadError("cut")])
    async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport):
        pass
    server = ModelServer(leases=[Unavailable("not ready within 900 seconds")] * 3)
    with pytest.raises(Unavailable, match="not ready within 900 seconds"):
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport):
            pass
    assert not server.leases


@pytest.mark.parametrize("error", [GpuOutOfMemory("no room", hint="less"), ModelRejected("unknown kind")])
def test_what_no_second_try_mends_is_raised_at_once(error: CraftError) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(leases=[error])
        with pytest.raises(type(error), match=error.message) as caught:
            async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport):
                pass
        assert caught.value.hint == error.hint
        assert len(server.requests) == 1

    scenario()


@in_a_loop
async def test_a_wrong_token_is_our_own_fault() -> None:
    server = ModelServer(leases=[httpx.Response(401)])
    with pytest.raises(Internal, match="token") as caught:
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport):
            pass
    assert caught.value.hint is not None
    assert "CRAFT_MODEL_SERVER_TOKEN" in caught.value.hint


@in_a_loop
async def test_the_reason_why_no_new_lease_is_given_ends_the_request() -> None:
    server = ModelServer(completions=[NotFound("no such lease")])
    async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
        server.leases = [GpuOutOfMemory("no room")]
        with pytest.raises(GpuOutOfMemory):
            await session.complete(REQUEST, "team/a")
    assert server.ended == ["lease_0"]


@pytest.mark.parametrize(
    ("answer", "expected", "param"),
    [
        (error_of_vllm(404, "The model `stage-1` does not exist."), ModelRejected, "adapter"),
        (
            error_of_vllm(400, "Failed to load LoRA 'stage-1': LoRA rank 128 is greater than max_lora_rank 64."),
            ModelRejected,
            None,
        ),
        (
            error_of_vllm(400, "This model's maximum context length is 512 tokens. However, you requested 600"),
            ContextTooLong,
            None,
        ),
        (error_of_vllm(400, "prompt is longer than max_model_len"), ContextTooLong, "messages"),
        (error_of_vllm(400, "logprob_token_ids: unexpected"), Internal, None),
        (httpx.Response(400, text="<html>" + "x" * 10_000), Internal, None),
        (httpx.Response(422, json=["no", "envelope"]), Internal, None),
        (problem(ModelRejected("ours", param="model")), ModelRejected, "model"),
    ],
)
def test_a_refusal_is_raised_once_and_by_its_kind(
    answer: httpx.Response, expected: type[CraftError], param: str | None
) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(completions=[answer])
        with pytest.raises(expected) as caught:
            async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
                await session.complete(REQUEST, "stage-1")
        assert type(caught.value) is expected
        assert param is None or caught.value.param == param
        assert len(caught.value.message) < 1000
        if expected is ContextTooLong:
            assert "q7" in caught.value.message
        assert server.taken == ["lease_0"]

    scenario()


@pytest.mark.parametrize(
    "answer", [problem(Unavailable("vLLM is not running.")), httpx.Response(200, text="<html>"), httpx.Response(500)]
)
def test_missing_counters_are_none(answer: httpx.Response) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = ModelServer(tokens=lambda: answer)
        async with lease_model(ACCESS, base(), None, unchecked, transport=server.transport) as session:
            assert await session.tokens() is None

    scenario()


@in_a_loop
async def test_a_model_server_that_is_gone_at_the_end_spoils_nothing() -> None:
    server = ModelServer()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            raise httpx.ConnectError("refused")
        return server(request)

    async with lease_model(ACCESS, base(), None, unchecked, transport=httpx.MockTransport(answer)) as session:
        assert await session.complete(REQUEST, "team/a")


@in_a_loop
async def test_a_server_of_the_teams_own_is_looked_at_whenever_a_lease_is_taken() -> None:
    """It may have been started again with other options: a check at the first lease alone would miss that."""
    checked: list[str] = []

    async def check(session: VllmSession) -> None:
        checked.append(str(await session.tokens_of({"model": "team/a", "prompt": "x"})))
        if len(checked) == 2:
            raise ServerUnsuitable("Other numbers.", hint="Set something.")

    server = ModelServer(attached=True)
    async with lease_model(ACCESS, base(), None, check, transport=server.transport) as session:
        server.completions = [Unavailable("vLLM did not answer")]
        with pytest.raises(ServerUnsuitable):
            await session.complete(REQUEST, "team/a")
    assert checked == ["[7]", "[7]"]


@in_a_loop
async def test_a_server_of_ours_is_not_looked_at() -> None:
    async def check(session: VllmSession) -> None:
        raise AssertionError

    async with lease_model(ACCESS, base(), None, check, transport=ModelServer().transport):
        pass
