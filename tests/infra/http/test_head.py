"""HEAD, through a real server and a socket: GET's response without its body, which is not produced in full."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from tests.infra.http.served import served

from craft.infra.http.app import create_app

MAX_SECONDS = 5.0


class Streams:
    """Counts the sent events of endless streams, and notes whether a stream was ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    async def endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.sent += 1
                yield b"data: x\n\n"
                await asyncio.sleep(0.01)
        finally:
            self.ended.set()

    async def silent(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


def app(streams: Streams) -> FastAPI:
    router = APIRouter(prefix="/v1")

    @router.get("/things/{number}")
    async def read(number: int) -> dict[str, int]:
        return {"number": number}

    @router.post("/things")
    async def create() -> None: ...

    @router.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(streams.endless(), media_type="text/event-stream")

    @router.get("/silence")
    async def silence() -> StreamingResponse:
        return StreamingResponse(streams.silent(), media_type="text/event-stream")

    return create_app(title="Things", service="things", routers=[router], max_body_bytes=100)


@pytest.fixture(scope="module")
def streams() -> Streams:
    return Streams()


@pytest.fixture(scope="module")
def port(streams: Streams) -> Iterator[int]:
    with served(app(streams)) as number:
        yield number


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=MAX_SECONDS) as made:
        yield made


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/things/12", "/v1/things/x", "/nowhere"])
def test_head_has_the_status_and_headers_of_get_and_no_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    own = {"x-request-id", "date"}
    assert head.status_code == get.status_code
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in get.headers.items() if name not in own
    }
    assert int(head.headers["content-length"]) == len(get.content) > 0
    assert head.content == b""


def test_nothing_follows_a_head(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=MAX_SECONDS) as connection:
        for path in (b"/v1/things/12", b"/v1/events", b"/v1/silence", b"/nowhere"):
            connection.sendall(b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            assert received.endswith(b"\r\n\r\n")
        connection.sendall(b"GET /v1/things/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        after = b"".join(iter(lambda: connection.recv(65536), b""))
    assert after.startswith(b"HTTP/1.1 200")
    assert after.endswith(b'{"number":7}')


def test_an_event_stream_ends_with_its_head(client: httpx.Client, streams: Streams) -> None:
    before = streams.sent
    streams.ended.clear()
    answer = client.head("/v1/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert streams.ended.wait(MAX_SECONDS)
    assert streams.sent <= before + 1
    with client.stream("GET", "/v1/events") as events:
        assert sum(1 for _, _ in zip(range(5), events.iter_bytes(8), strict=False)) == 5


def test_a_body_that_comes_with_head_is_bounded_too(client: httpx.Client) -> None:
    assert client.request("HEAD", "/v1/things/1", content=b"x" * 101).status_code == 413


def test_a_path_without_get_has_no_head(client: httpx.Client) -> None:
    answer = client.head("/v1/things")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.put("/v1/things/1").headers["allow"] == "GET, HEAD"


def test_head_is_counted_as_such(client: httpx.Client) -> None:
    client.head("/v1/things/1")
    counted = client.get("/metrics").text
    assert (
        'craft_http_requests_total{method="HEAD",route="/v1/things/{number}",service="things",status="200"}' in counted
    )
