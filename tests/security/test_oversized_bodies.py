"""Bodies that are larger than allowed and lie about it, sent to a real gateway process, whose memory is watched."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.ports import free_ports
from tests.tokens import ENVIRONMENT

from craft_gateway.store import schema
from craft_gateway.store.database import Database

# With the servers' tests, because it takes minutes: each lie has a gateway to itself.
pytestmark = pytest.mark.servers

MIB = 2**20
SENT_BYTES = 300 * MIB
MAX_BODY_BYTES = 128 * MIB
FLAT_BYTES = 50 * MIB
_BLOCK = b"x" * (64 * 1024)
_CHUNK = b"%x\r\n%s\r\n" % (len(_BLOCK), _BLOCK)
_SAMPLE_SECONDS = 0.01
_PATIENCE_SECONDS = 60.0
_CHUNKED = "Transfer-Encoding: chunked"
_FORM = "multipart/form-data; boundary=cut"
_FILE = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@dataclass(frozen=True, slots=True)
class Lie:
    """A request's head beside its first line, what its body begins with, and what is then sent on and on."""

    name: str
    path: str
    headers: tuple[str, ...]
    start: bytes
    more: bytes
    allowed: frozenset[int]
    method: str = "POST"


def chunked(name: str, path: str, *, kind: str = "application/json", start: bytes = b"", code: int = 413) -> Lie:
    first = b"%x\r\n%s\r\n" % (len(start), start) if start else b""
    headers = (_CHUNKED, f"Content-Type: {kind}")
    return Lie(name, path, headers, first, _CHUNK, frozenset({code}))


def sized(name: str, length: str, allowed: set[int], *more: str, path: str = "/craft/jobs") -> Lie:
    headers = (f"Content-Length: {length}", "Content-Type: application/json", *more)
    return Lie(name, path, headers, b"", _BLOCK, frozenset(allowed))


LIES = [
    chunked("a job", "/craft/jobs"),
    chunked("a dry run", "/craft/jobs/validate"),
    chunked("a call that takes no body", "/craft/jobs/x/cancel"),
    chunked("rows", "/craft/datasets"),
    chunked("a file", "/craft/datasets", kind=_FORM, start=_FILE),
    chunked("a form's field", "/craft/datasets", kind=_FORM, start=_FILE.replace(b'; filename="f"', b""), code=422),
    chunked("a form's headers", "/craft/datasets", kind=_FORM, start=b"--cut\r\nContent-Disposition: ", code=422),
    chunked("a chat", "/v1/chat/completions"),
    chunked("the path under the second prefix", "/v1/craft/jobs"),
    sized("more than allowed", str(MAX_BODY_BYTES + 1), {413}),
    sized("a length of twenty digits", "9" * 20, {400, 413}),
    sized("a length that is short", "10", {400, 422}),
    sized("a length of nothing", "0", {400, 422}),
    sized("a negative length", "-1", {400}),
    sized("a length that is no number", "1e9", {400}),
    sized("a length in other digits", "\u0661\u0660", {400}),
    sized("two lengths", "10", {400}, "Content-Length: 1000000000"),
    sized("a length and chunks", "10", {400, 413, 422}, _CHUNKED),
    Lie("no length", "/craft/jobs", (), b"", _BLOCK, frozenset({400, 422})),
    Lie("one chunk of 2**60 bytes", "/craft/jobs", (_CHUNKED,), b"1%015d\r\n" % 0, _BLOCK, frozenset({400, 413})),
    Lie("a chunk size without end", "/craft/jobs", (_CHUNKED,), b"", b"0" * 65536, frozenset({400, 413})),
    Lie("headers without end", "/craft/jobs", (), b"", b"X-More: " + b"x" * 8000 + b"\r\n", frozenset({400, 413, 431})),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Server:
    """A running gateway."""

    port: int
    process: psutil.Process
    state: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("gateway")
    database = Database(f"sqlite:///{state / 'craft.db'}")
    schema.upgrade(database)
    database.close()
    (state / "uploads").mkdir()
    (port,) = free_ports(1)
    changed = {
        "CRAFT_STATE_DIR": str(state),
        "CRAFT_GATEWAY__PORT": str(port),
        "CRAFT_GATEWAY__MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "TMPDIR": str(state / "uploads"),
    }
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "craft_gateway.api"], env=os.environ | ENVIRONMENT | changed, stdout=log, stderr=log
        )
        try:
            _await(port)
            yield Server(port, psutil.Process(process.pid), state)
        finally:
            process.terminate()
            process.wait(20)


def _await(port: int) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/readyz").raise_for_status()
            return
        time.sleep(0.05)
    pytest.fail("the gateway did not start")


@contextmanager
def peak(process: psutil.Process) -> Iterator[list[int]]:
    """The most bytes in memory at a sample, as the list's one item when the block has ended."""
    most, over = [process.memory_info().rss], threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def told(port: int, lie: Lie) -> int:
    """The status that comes while the body is sent, or after all of it was."""
    head = f"{lie.method} {lie.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + "".join(f"{line}\r\n" for line in lie.headers)
    end = "" if lie.more.startswith(b"X-More") else "\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS) as connection:
        with suppress(ConnectionError):
            connection.sendall((head + end).encode() + lie.start)
            sent = 0
            while sent < SENT_BYTES and not _answered(connection):
                connection.sendall(lie.more)
                sent += len(lie.more)
        return _status(connection)


def _answered(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK)) or True
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(_PATIENCE_SECONDS)


def _status(connection: socket.socket) -> int:
    line = b""
    while b"\r\n" not in line and (more := connection.recv(1000)):
        line += more
    return int(line.split()[1])


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_a_lying_body_is_refused_in_little_memory(server: Server, lie: Lie) -> None:
    before = server.process.memory_info().rss
    with peak(server.process) as most:
        status = told(server.port, lie)
    assert status in lie.allowed
    assert most[0] - before < FLAT_BYTES
    assert httpx.get(f"http://127.0.0.1:{server.port}/craft/jobs").json()["data"] == []
    assert list((server.state / "uploads").iterdir()) == []
