"""Real servers on this machine that datasets are fetched from: honest ones, and some that misbehave."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = b'{"question": "Why?", "answers": ["because"]}\n{"question": "Who?", "answers": ["me"]}\n'
_STEP_SECONDS = 0.05
Answer = Callable[[BaseHTTPRequestHandler], None]


class Source(ThreadingHTTPServer):
    """Answers paths as `answers` says, and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__((HOST, 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []
        """Paths and their Authorization."""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is what most of these tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.server.answers.get(self.path, status(404))(self)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Tests are quiet."""


@contextmanager
def source(answers: dict[str, Answer]) -> Iterator[Source]:
    with Source(answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(10)


def body(content: bytes, *, said: int | None = None, **headers: str) -> Answer:
    """A file; `said` is a Content-Length that need not be true."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content) if said is None else said))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def status(code: int, text: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Chunks without an end, and no length beforehand."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(ROWS), ROWS))


def silent(handler: BaseHTTPRequestHandler) -> None:
    """A promise, and then nothing for as long as the server lives."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.flush()
    _server(handler).closing.wait(30)


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """Headers a byte at a time: never idle, never done."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not _server(handler).closing.is_set():
        handler.wfile.write(b"x")
        time.sleep(_STEP_SECONDS)


def _server(handler: BaseHTTPRequestHandler) -> Source:
    server = handler.server
    assert isinstance(server, Source)
    return server


def hub(content: bytes, *, repo: str = "team/facts", file: str = "data/train.jsonl") -> dict[str, Answer]:
    """A hub with one repository as huggingface.co answers for it: a large file lies elsewhere, named by its hash."""
    etag = hashlib.sha256(content).hexdigest()
    to_the_blob = status(
        302,
        Location="/blob",
        X_Repo_Commit=COMMIT,
        X_Linked_Etag=f'"{etag}"',
        X_Linked_Size=str(len(content)),
    )
    moved = f"/datasets/{repo}/resolve"
    return {
        f"{moved}/main/{file}": to_the_blob,
        f"{moved}/{COMMIT}/{file}": to_the_blob,
        f"{moved}/refs%2Fpr%2F1/{file}": to_the_blob,
        f"{moved}/main/small.csv": body(b"prompt,completion\nWhy?,x\n", X_Repo_Commit=COMMIT, ETag='"git"'),
        f"{moved}/main/none": status(404, X_Error_Code="EntryNotFound"),
        "/blob": body(content, ETag='"of the store"'),
    }
