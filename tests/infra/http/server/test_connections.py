"""Over real sockets: who sends or reads nothing is cut off, and connections are bounded in all and for each peer."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from starlette.types import Receive, Scope, Send
from tests.infra.http.served import served

from craft.infra.http.server.connections import Closing, Patience, Places
from craft.infra.http.server.serve import max_connections

PATIENCE = Patience(head_seconds=0.5, body_seconds=0.5, unread_seconds=0.5, min_bytes=1000)
SOON = 5.0
"""Far longer than the patience, and shorter than what hangs."""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
LARGE = 64 * 2**20
"""More than the buffers of both sides."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; /large is larger than all buffers, /early is answered before its body."""
    if scope["type"] != "http":
        return
    count, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        count, more = count + len(message.get("body", b"")), message.get("more_body", False)
    body = b"x" * LARGE if scope["path"] == "/large" else str(count).encode()
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def places() -> Places:
    return Places(most=12, most_per_peer=8)


@pytest.fixture
def port(places: Places) -> Iterator[int]:
    with served(echo, places=places, patience=PATIENCE) as number:
        yield number


def connected(port: int, address: str = "127.0.0.1") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=SOON, source_address=(address, 0))
    made.settimeout(SOON)
    return made


def received(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection. Raises TimeoutError where it does not."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while more := connection.recv(2**20):
            found += more
    return bytes(found)


def answered(connection: socket.socket, request: bytes = GET) -> bytes:
    connection.sendall(request)
    return connection.recv(65536)


@pytest.mark.parametrize("half", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_whole_head_is_answered_408_and_closed(port: int, places: Places, half: bytes) -> None:
    with closing(connected(port)) as connection:
        connection.sendall(half)
        assert received(connection).startswith(b"HTTP/1.1 408")
    assert places.closed == {Closing.HEAD: 1}


def test_a_head_that_comes_byte_by_byte_has_no_longer_time_than_any(port: int) -> None:
    with closing(connected(port)) as connection:
        began = time.monotonic()
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 3


def test_a_second_head_that_stops_halfway_is_cut_off_too(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        assert answered(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(GET[:10])
        assert received(connection) == b""
    assert places.closed == {Closing.HEAD: 1}


@pytest.mark.parametrize("rest", [b"", b"x"])
def test_a_body_that_stops_or_trickles_is_cut_off(port: int, places: Places, rest: bytes) -> None:
    with closing(connected(port)) as connection:
        connection.sendall(POST + rest)
        began = time.monotonic()
        try:
            while time.monotonic() - began < SOON:
                connection.sendall(rest)
                connection.settimeout(0.05)
                try:
                    if not connection.recv(100):
                        break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
        assert time.monotonic() - began < 3
    assert places.closed == {Closing.BODY: 1}


def test_the_rest_of_a_body_that_was_answered_early_has_one_window(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        began = time.monotonic()
        connection.sendall(POST.replace(b"/ ", b"/early ", 1).replace(b"100000", b"1000000000"))
        while not places.closed and time.monotonic() - began < SOON:
            with suppress(ConnectionError):
                connection.sendall(b"x" * 5000)
            time.sleep(0.02)
    assert places.closed == {Closing.BODY: 1}


def test_a_body_that_comes_slowly_but_steadily_is_read_whole(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        connection.sendall(POST.replace(b"100000", b"10000"))
        for _ in range(10):
            connection.sendall(b"x" * 1000)
            time.sleep(0.15)
        assert connection.recv(1000).endswith(b"10000")
    assert not places.closed


def test_an_application_may_take_its_time(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        assert answered(connection, GET.replace(b"/ ", b"/slow ", 1)).startswith(b"HTTP/1.1 200")
    assert not places.closed


def test_a_peer_that_does_not_read_is_cut_off(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        connection.sendall(GET.replace(b"/ ", b"/large ", 1))
        until = time.monotonic() + SOON
        while not places.closed and time.monotonic() < until:
            time.sleep(0.05)
        assert places.closed == {Closing.UNREAD: 1}
        assert len(received(connection)) < LARGE


def test_a_peer_that_reads_gets_the_whole_of_a_large_response(port: int, places: Places) -> None:
    with closing(connected(port)) as connection:
        connection.sendall(GET.replace(b"/ ", b"/large ", 1).replace(b"Host", b"Connection: close\r\nHost"))
        found = received(connection)
        assert (len(found) > LARGE, dict(places.closed)) == (True, {})
    assert not places.closed


def test_half_heads_without_number_keep_nobody_out(port: int, places: Places) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(closing(connected(port))).sendall(GET[:10])
        assert places.taken <= 8
        # The connection that waits longest for a head makes room, for its own peer and for others.
        for address in ("127.0.0.1", "127.0.0.2"):
            with closing(connected(port, address)) as connection:
                assert answered(connection).startswith(b"HTTP/1.1 200")


def test_a_peer_whose_connections_all_work_gets_no_more_and_another_peer_does(port: int, places: Places) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(closing(connected(port))) for _ in range(8)]
        for connection in busy:
            connection.sendall(POST)
        time.sleep(0.1)
        with closing(connected(port)) as further:
            assert received(further).startswith(b"HTTP/1.1 503")
        with closing(connected(port, "127.0.0.2")) as other:
            assert answered(other).startswith(b"HTTP/1.1 200")
    assert places.closed[Closing.FULL] == 1


def test_no_place_is_lost(port: int, places: Places) -> None:
    for _ in range(30):
        with closing(connected(port)) as connection:
            assert answered(connection).startswith(b"HTTP/1.1 200")
    until = time.monotonic() + SOON
    while places.taken and time.monotonic() < until:
        time.sleep(0.02)
    assert places.taken == 0


def test_connections_leave_descriptors_to_files_and_the_database() -> None:
    assert [max_connections(limit) for limit in (1_000_000, 1024, 256, 100)] == [999_872, 896, 128, 50]


PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
from craft.infra.http.server.serve import raise_descriptor_limit
print(raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_server_raises_its_limit_of_open_files_to_the_hard_one() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.split(maxsplit=1) == ["512", "(512, 512)\n"]
