"""A real server over sockets cuts off endless input, reads long bodies, and takes no body for a request."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from starlette.types import Receive, Scope, Send
from tests.infra.http.served import served

SENT = 6 * 2**20
"""More than the buffers of server and sockets."""
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def counting(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; /stream sends one byte at once and never the last one."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"s", "more_body": True})
        await asyncio.Event().wait()
    count, more = 0, True
    while more:
        message = await receive()
        count, more = count + len(message.get("body", b"")), message.get("more_body", False)
    body = str(count).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(counting) as number:
        yield number


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
        yield made


def cut_off(connection: socket.socket, endless: bytes) -> bool:
    """Whether the server disconnects, or stops reading, while `endless` is sent repeatedly."""
    connection.settimeout(2)
    with suppress(ConnectionError, TimeoutError):
        for _ in range(SENT // len(endless) + 1):
            connection.sendall(endless)
        return False
    return True


def answered(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
        received += more
    return received


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-More: " + b"x" * 900 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-One: ", b"x" * 1000),
        (b"GET /", b"x" * 1000),
        (CHUNKED, b"0" * 1000),
        (CHUNKED + b"1;", b"x" * 1000),
        (CHUNKED + b"0\r\n", b"X-More: " + b"x" * 900 + b"\r\n"),
    ],
    ids=["headers", "one header", "a path", "a chunk's size", "a chunk's extension", "trailers"],
)
def test_what_has_no_end_is_cut_off(connection: socket.socket, start: bytes, endless: bytes) -> None:
    connection.sendall(start)
    assert cut_off(connection, endless)


def test_who_reads_a_stream_and_sends_headers_without_end_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answered(connection).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET / HTTP/1.1\r\n")
    assert cut_off(connection, b"X-More: " + b"x" * 900 + b"\r\n")


def test_a_head_of_a_few_kilobytes_is_answered(connection: socket.socket) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-One: " + b"x" * 30_000 + b"\r\n\r\n")
    assert answered(connection).endswith(b"0")


def test_a_long_body_in_many_small_chunks_is_read_whole(connection: socket.socket) -> None:
    connection.sendall(CHUNKED)
    for _ in range(300):
        connection.sendall(b"3e8\r\n%s\r\n" % (b"x" * 1000) * 10)
    connection.sendall(b"0\r\n\r\n")
    assert answered(connection).endswith(b"3000000")


def test_a_connection_is_used_for_many_requests(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-One: " + b"x" * 1000 + b"\r\n\r\n")
        assert answered(connection).endswith(b"0")


@pytest.mark.parametrize("version", ["", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_an_offered_upgrade_changes_nothing(connection: socket.socket, version: str, apart: bool) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{version}"
    connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + (b"" if apart else body))
    if apart:
        time.sleep(0.1)
        connection.sendall(body)
    assert answered(connection).endswith(b"%d" % len(body))
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)


def test_a_request_without_a_host_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert answered(connection).startswith(b"HTTP/1.1 400")
