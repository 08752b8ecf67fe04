"""The model server's calls: their token, their forwarding to vLLM, and their end when a caller disconnects."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr
from tests.services.inference.rigs.supervisor_rig import Rig, a_while, base, in_a_loop, until

from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from craft.contracts.services.model_server import BASE_MODEL_HEADER, LEASE_HEADER, ModelLease, ModelLeaseRequest
from craft.errors import GpuOutOfMemory, ModelRejected
from craft.infra.http.app import create_app
from craft_inference.model_server.adapter_chats import AdapterChats
from craft_inference.model_server.routes import router
from craft_inference.model_server.server_fake import Answer, FakeServer, echo

TOKEN = "sesame"
NO_FORMS = AdapterChats(Path("/nonexistent"))
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
OPEN = {"/healthz", "/readyz", "/metrics"}
VLLMS_OTHERS = [
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/pause", "/resume", "/sleep", "/wake_up", "/is_sleeping"),
    *("/update_weights", "/init_weight_transfer_engine", "/invocations", "/tokenize", "/detokenize", "/collective_rpc"),
    *("/reset_prefix_cache", "/scale_elastic_ep", "/server_info", "/v1/models", "/v1/responses", "/v1/embeddings"),
    *("/v1/messages", "/inference/v1/generate", "/start_profile", "/version", "/health", "/v1/completions/render"),
    *("/v1/chat/completions/../../load_lora_adapter", "/v1/%6coad_lora_adapter", "//v1/load_lora_adapter"),
]
EVENTS = [b'data: {"a": 1}\n\n', b"data: \xf0\x9f\x98\x80\n\n", b"data: [DONE]\n\n"]


class Stream(httpx.AsyncByteStream):
    """A stream of vLLM: some chunks, and then, where it is `endless`, silence until it is closed."""

    def __init__(self, chunks: list[bytes], *, endless: bool = False) -> None:
        self.closed = False
        self._chunks = chunks
        self._endless = endless

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._endless:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


class Upstream:
    """Answers with `stream`, or never where there is none; `hung_up` says whether the caller disconnected."""

    def __init__(self, stream: Stream | None = None) -> None:
        self.stream = stream
        self.hung_up = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.stream is not None:
            return httpx.Response(200, stream=self.stream, headers={"content-type": "text/event-stream; charset=utf-8"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.hung_up = True
            raise
        raise AssertionError("unreachable")


def app_of(rig: Rig, answer: Answer = echo) -> FastAPI:
    rig.make = lambda: FakeServer(answer)
    return create_app(
        title="Model server",
        service="model-server",
        routers=[router(rig.supervisor, token=SecretStr(TOKEN), chats=NO_FORMS)],
    )


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=AUTHORIZED) as client:
        yield client


def lease_body(name: str = "a", *, has_device: bool = True) -> dict[str, Any]:
    return ModelLeaseRequest(base=base(name), has_device=has_device).model_dump(mode="json")


def as_user(name: str = "a") -> dict[str, str]:
    return {BASE_MODEL_HEADER: base(name).model_dump_json()}


def problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    return Problem.model_validate_json(answer.content)


class Caller:
    """One request over bare ASGI, from a caller that can disconnect."""

    def __init__(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        self.gone = asyncio.Event()
        self.chunks: list[bytes] = []
        self._body: list[bytes] = [json.dumps(body).encode()]
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in {**AUTHORIZED, **headers}.items()],
            "client": ("caller", 1),
            "server": ("server", 80),
        }

    async def call(self, app: FastAPI) -> None:
        await app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            self.chunks.append(message["body"])


def routes() -> list[tuple[str, str]]:
    found = router(Rig().supervisor, token=SecretStr(TOKEN), chats=NO_FORMS).routes
    return [(method, route.path) for route in found if isinstance(route, APIRoute) for method in route.methods or ()]


ROUTES = routes()


def test_the_list_of_routes_is_what_it_is() -> None:
    assert sorted(path for _, path in ROUTES) == [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/leases",
        "/v1/leases/{lease_id}",
        "/v1/release",
        "/v1/server",
        "/v1/tokenize",
        "/v1/tokens",
    ]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic c2VzYW1l", f"bearer {TOKEN}x", TOKEN])
def test_no_call_is_answered_without_the_token(header: str | None) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()
        headers = {**as_user(), LEASE_HEADER: "lease_x", **({} if header is None else {"Authorization": header})}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(rig)), base_url="http://server") as client:
            for method, path in ROUTES:
                answer = await client.request(method, path, json=lease_body(), headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert rig.servers == []

    scenario()


@pytest.mark.parametrize("path", sorted(OPEN))
def test_health_and_metrics_need_no_token(path: str) -> None:
    @in_a_loop
    async def scenario() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(Rig())), base_url="http://server") as client:
            assert (await client.get(path)).status_code == 200

    scenario()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_vllms_other_calls_do_not_exist(method: str) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()
        async with client_of(app_of(rig)) as client:
            lease = ModelLease.model_validate((await client.post("/v1/leases", json=lease_body())).json())
            for path in VLLMS_OTHERS:
                answer = await client.request(method, path, json={}, headers={LEASE_HEADER: lease.id, **as_user()})
                assert answer.status_code == 404, path
        assert rig.servers[0].requests == []

    scenario()


@in_a_loop
async def test_a_lease_from_its_start_to_its_end() -> None:
    rig = Rig()
    async with client_of(app_of(rig)) as client:
        lease = ModelLease.model_validate((await client.post("/v1/leases", json=lease_body())).json())
        answer = await client.post("/v1/completions", content=b'{"n":  10}', headers={LEASE_HEADER: lease.id})
        assert (answer.status_code, answer.content) == (200, b'{"n":  10}')
        assert rig.servers[0].requests[0].url.path == "/v1/completions"
        await client.post("/v1/tokenize", content=b'{"prompt": "x"}', headers={LEASE_HEADER: lease.id})
        assert rig.servers[0].requests[1].url.path == "/tokenize"
        assert "authorization" not in rig.servers[0].requests[0].headers
        assert (await client.get("/v1/server")).json()["leases"] == 1
        assert (await client.get("/v1/tokens")).json() == {"prompt": 0, "cached": 0}
        assert (await client.delete(f"/v1/leases/{lease.id}")).json()["leases"] == 0
        answer = await client.post("/v1/completions", json={}, headers={LEASE_HEADER: lease.id})
        assert (answer.status_code, problem(answer).code) == (404, "not_found")
        assert (await client.post("/v1/release")).json()["state"] == "stopped"


@in_a_loop
async def test_a_completion_without_a_lease_or_a_base_is_refused() -> None:
    async with client_of(app_of(Rig())) as client:
        assert (await client.post("/v1/completions", json={})).status_code == 422
        assert (await client.post("/v1/tokenize", json={})).status_code == 422
        assert (await client.post("/v1/chat/completions", json={})).status_code == 422
        for header in ("{}", "no json", '{"model": 1, "dtype": "x"}'):
            answer = await client.post("/v1/chat/completions", json={}, headers={BASE_MODEL_HEADER: header})
            assert (answer.status_code, problem(answer).code) == (422, "request_invalid")


@pytest.mark.parametrize("error", [GpuOutOfMemory("no room", hint="less"), ModelRejected("no such kind")])
def test_why_a_server_does_not_start_is_a_problem_document(error: GpuOutOfMemory | ModelRejected) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()
        app = app_of(rig)

        def make() -> FakeServer:
            raise error

        rig.make = make
        async with client_of(app) as client:
            for answer in (
                await client.post("/v1/leases", json=lease_body()),
                await client.post("/v1/chat/completions", json={}, headers=as_user()),
            ):
                assert (answer.status_code, problem(answer).code, problem(answer).hint) == (
                    error.status,
                    error.code,
                    error.hint,
                )

    scenario()


@in_a_loop
async def test_a_taken_device_says_when_to_try_again() -> None:
    rig = Rig()
    rig.free = False
    async with client_of(app_of(rig)) as client:
        answer = await client.post("/v1/chat/completions", json={}, headers=as_user())
        assert (answer.status_code, problem(answer).code) == (503, "device_busy")
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_vllms_own_errors_pass_through(stream: bool) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()
        error = {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}}

        async def refuse(request: httpx.Request) -> httpx.Response:
            return httpx.Response(404, json=error)

        async with client_of(app_of(rig, refuse)) as client:
            answer = await client.post("/v1/chat/completions", json={"stream": stream}, headers=as_user())
        assert (answer.status_code, answer.json()) == (404, error)
        assert answer.headers["content-type"] == "application/json"
        assert rig.supervisor.view().in_flight == 0

    scenario()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"stream": null}', b"[" * 100_000, b'{"stream"\xff'])
def test_a_body_that_is_no_request_is_vllms_to_refuse(body: bytes) -> None:
    @in_a_loop
    async def scenario() -> None:
        async with client_of(app_of(Rig())) as client:
            answer = await client.post("/v1/chat/completions", content=body, headers=as_user())
        assert (answer.status_code, answer.content) == (200, body)

    scenario()


@in_a_loop
async def test_a_lost_vllm_is_unavailable() -> None:
    rig = Rig()

    async def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut")

    async with client_of(app_of(rig, cut)) as client:
        for stream in (False, True):
            answer = await client.post("/v1/chat/completions", json={"stream": stream}, headers=as_user())
            assert (answer.status_code, problem(answer).code) == (503, "unavailable")
    assert rig.supervisor.view().in_flight == 0


@in_a_loop
async def test_a_stream_passes_byte_for_byte_and_is_closed() -> None:
    rig = Rig()
    upstream = Upstream(Stream(EVENTS))
    app = app_of(rig, upstream)
    caller = Caller("/v1/chat/completions", {"stream": True}, as_user())
    await caller.call(app)
    assert caller.chunks == EVENTS
    assert upstream.stream is not None
    assert upstream.stream.closed
    assert rig.supervisor.view().in_flight == 0
    async with client_of(app) as client:
        upstream.stream = Stream(EVENTS)
        answer = await client.post("/v1/chat/completions", json={"stream": True}, headers=as_user())
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_proxy_before_vllm_compressed_is_readable(stream: bool) -> None:
    @in_a_loop
    async def scenario() -> None:
        async def packed(request: httpx.Request) -> httpx.Response:
            headers = {"content-encoding": "gzip", "content-type": "text/event-stream"}
            return httpx.Response(200, stream=Stream([gzip.compress(EVENTS[0])]), headers=headers)

        async with client_of(app_of(Rig(), packed)) as client:
            answer = await client.post("/v1/chat/completions", json={"stream": stream}, headers=as_user())
        assert answer.content == EVENTS[0]
        assert "content-encoding" not in answer.headers

    scenario()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leased", [False, True])
def test_a_caller_that_hangs_up_before_the_answer_cancels_it(stream: bool, leased: bool) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()
        upstream = Upstream()
        app = app_of(rig, upstream)
        lease = await rig.lease("a")
        path = "/v1/completions" if leased else "/v1/chat/completions"
        caller = Caller(path, {"stream": stream}, {LEASE_HEADER: lease.id} if leased else as_user())
        calling = asyncio.create_task(caller.call(app))
        await until(lambda: rig.supervisor.view().in_flight == 1)
        await a_while()
        assert not upstream.hung_up
        caller.gone.set()
        await calling
        assert upstream.hung_up
        assert rig.supervisor.view().in_flight == 0

    scenario()


@in_a_loop
async def test_a_caller_that_hangs_up_within_a_stream_cancels_it() -> None:
    rig = Rig()
    stream = Stream(EVENTS[:1], endless=True)
    app = app_of(rig, Upstream(stream))
    caller = Caller("/v1/chat/completions", {"stream": True}, as_user())
    calling = asyncio.create_task(caller.call(app))
    await until(lambda: caller.chunks == EVENTS[:1])
    assert rig.supervisor.view().in_flight == 1
    caller.gone.set()
    await calling
    assert stream.closed
    assert rig.supervisor.view().in_flight == 0


@in_a_loop
async def test_a_caller_that_hangs_up_just_as_the_stream_begins_leaves_nothing() -> None:
    rig = Rig()
    stream = Stream(EVENTS, endless=True)
    caller = Caller("/v1/chat/completions", {"stream": True}, as_user())

    async def answer(request: httpx.Request) -> httpx.Response:
        caller.gone.set()
        return httpx.Response(200, stream=stream, headers={"content-type": "text/event-stream"})

    await caller.call(app_of(rig, answer))
    await a_while()
    assert stream.closed
    assert rig.supervisor.view().in_flight == 0


@in_a_loop
async def test_a_stream_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    rig = Rig()

    class Broken(Stream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield EVENTS[0]
            raise httpx.ReadError("cut")

    stream = Broken([])
    caller = Caller("/v1/chat/completions", {"stream": True}, as_user())
    with pytest.raises((httpx.ReadError, BaseExceptionGroup)):
        await caller.call(app_of(rig, Upstream(stream)))
    assert (caller.chunks, stream.closed) == (EVENTS[:1], True)
    assert rig.supervisor.view().in_flight == 0
