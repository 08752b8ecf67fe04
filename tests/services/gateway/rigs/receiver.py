"""A receiver of webhooks on a real socket. A test chooses whether it answers, fails, hangs, drips or breaks off."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """One complete request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Behaviour = Callable[["Handler", Received], None]


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer every request in the same way."""

    def act(handler: "Handler", received: Received) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def reset(handler: "Handler", received: Received) -> None:
    """Reset the connection without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # A shutdown would end the connection properly; close resets it.
    handler.wfile.close()
    handler.rfile.close()
    handler.connection.close()
    handler.close_connection = True


def drip(handler: "Handler", received: Received) -> None:
    """Send a header line that never ends, one byte at a time."""
    with suppress(OSError):
        while not handler.receiver.over.wait(0.02):
            handler.connection.sendall(b"H" if handler.begun else b"HTTP/1.1 200 OK\r\nX-")
            handler.begun = True


def endless(handler: "Handler", received: Received) -> None:
    """Answer 200 with a body without end."""
    with suppress(OSError):
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while not handler.receiver.over.is_set():
            handler.connection.sendall(b"\xe6\x98\xaf\0" * 1000)


@dataclass
class Receiver:
    """The received requests, and the behaviour for each path; the default behaviour is 200."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    max_at_once: Counter[str] = field(default_factory=Counter)
    """The largest number of simultaneous requests, by message id and by path."""
    _at_once: Counter[str] = field(default_factory=Counter)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def hang(self, handler: "Handler", received: Received) -> None:
        """Send no answer until the test is over."""
        self.over.wait(TIMEOUT_SECONDS)

    def of(self, path: str) -> list[Received]:
        return [request for request in self.received if request.path == path]

    def wait(self, count: int, path: str | None = None) -> list[Received]:
        """Wait for `count` requests, and return those received."""

        def enough() -> bool:
            return len(self.received if path is None else self.of(path)) >= count

        with self._changed:
            assert self._changed.wait_for(enough, TIMEOUT_SECONDS), f"{len(self.received)} came, not {count}"
        return list(self.received) if path is None else self.of(path)

    def entered(self, received: Received) -> None:
        with self._changed:
            self.received.append(received)
            for name in (received.id, received.path):
                self._at_once[name] += 1
                self.max_at_once[name] = max(self.max_at_once[name], self._at_once[name])
            self._changed.notify_all()

    def left(self, received: Received) -> None:
        with self._changed:
            for name in (received.id, received.path):
                self._at_once[name] -= 1


class Handler(BaseHTTPRequestHandler):
    """Reads the whole request before it behaves as the receiver says."""

    receiver: Receiver
    begun = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.receiver.entered(received)
        try:
            self.receiver.behaviours.get(self.path, answer(200, b"thanks"))(self, received)
        finally:
            self.receiver.left(received)

    def do_GET(self) -> None:
        raise AssertionError("A redirect must not be followed here.")

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore callers that disconnect early: tests do so on purpose."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for as long as the block lasts."""
    receiver = Receiver()
    handler = type("BoundHandler", (Handler,), {"receiver": receiver})
    with _Server(("127.0.0.1", 0), handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.over.set()
            server.shutdown()
            thread.join(TIMEOUT_SECONDS)
