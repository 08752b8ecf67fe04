"""A reverse proxy over real HTTP that requires a password, or breaks chosen calls, as proxies of companies do."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Break = Callable[[str, str], int | None]
"""Maps method and path to the status of the proxy's own answer; None lets the call pass."""


@contextmanager
def proxy(upstream: str, *, breaks: Break | None = None, password: str | None = None) -> Iterator[str]:
    """Run the proxy and yield its URL. With `password`, only user `craft` with that password passes."""
    required = None if password is None else "Basic " + base64.b64encode(f"craft:{password}".encode()).decode()
    client = httpx.Client(base_url=upstream, timeout=60, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if required is not None and self.headers.get("Authorization") != required:
                self._answer(401, b"You are not authenticated.")
                return
            status = breaks(self.command, self.path) if breaks else None
            if status is not None:
                self._answer(status, json.dumps({"error_code": "BROKEN", "message": "by the test"}).encode())
                return
            forwarded = {
                name: value for name, value in self.headers.items() if name.lower() not in {"host", "authorization"}
            }
            answer = client.request(self.command, self.path, content=body, headers=forwarded)
            self._answer(answer.status_code, answer.content)

        do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 - the framework's names

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        client.close()
