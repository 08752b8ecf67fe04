"""A user's URL leads only to public addresses, and exactly to the checked one."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from craft.errors import RequestInvalid, Unavailable
from craft.infra.http.outbound import OutboundPolicy, OutboundTransport, Resolve

PUBLIC = "93.184.215.14"


class Recording(httpx.BaseTransport):
    """Records the requests that would be sent."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return httpx.Response(302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})


def at(*addresses: str) -> Resolve:
    """A resolver that knows one host."""
    return lambda *_: list(addresses)


class Pinned(httpx.BaseTransport):
    """Forwards requests that the policy allows, as `OutboundTransport` does for asynchronous clients."""

    def __init__(self, policy: OutboundPolicy, inner: Recording) -> None:
        self._policy = policy
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._inner.handle_request(self._policy.pinned(request))


def client(policy: OutboundPolicy, sent: Recording) -> httpx.Client:
    return httpx.Client(transport=Pinned(policy, sent), follow_redirects=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1",
        "192.0.0.1", "192.0.0.192", "192.0.0.9", "192.88.99.1", "168.63.129.16", "203.0.113.7", "198.51.100.1",
        "::7f00:1", "::a9fe:a9fe", "::5db8:d70e", "::ffff:0:7f00:1", "::ffff:0:5db8:d70e", "64:ff9b:1::1",
        "64:ff9b:1::7f00:1", "64:ff9b::c000:c0", "fec0::1", "feff::1", "2001::1", "2001:0:5db8:d70e::1", "2001:10::1",
        "2001:20::1", "2002:5db8:d70e::1", "3fff::1", "4000::1", "5f00::1", "100::1", "::ffff:192.0.0.192",
        "no address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused_before_anything_is_sent(address: str) -> None:
    sent = Recording()
    policy = OutboundPolicy(resolve=at(PUBLIC, address))
    with client(policy, sent) as http, pytest.raises(RequestInvalid, match="no public address"):
        http.post("https://hooks.example/in", content=b"{}")
    assert sent.sent == []


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946", "2001:4860:4860::8888", "2a00:1450:4001::1", "64:ff9b::5db8:d70e"],
)
def test_a_public_address_is_taken(address: str) -> None:
    sent = Recording()
    with client(OutboundPolicy(resolve=at(address)), sent) as http:
        http.post("https://hooks.example/in?x=1", content=b"{}")
    (request,) = sent.sent
    assert request.url.host == address
    assert (request.headers["Host"], request.extensions["sni_hostname"]) == ("hooks.example", "hooks.example")
    assert (request.url.path, request.url.query) == ("/in", b"x=1")


def test_a_name_that_changes_its_address_is_resolved_once() -> None:
    answers = iter(([PUBLIC], ["127.0.0.1"]))
    sent = Recording()
    with client(OutboundPolicy(resolve=lambda *_: next(answers)), sent) as http:
        http.get("https://rebinding.example/")
        assert sent.sent[0].url.host == PUBLIC
        with pytest.raises(RequestInvalid):
            http.get("https://rebinding.example/")
    assert len(sent.sent) == 1


def test_a_redirect_is_not_followed() -> None:
    sent = Recording()
    with client(OutboundPolicy(resolve=at(PUBLIC)), sent) as http:
        assert http.get("https://hooks.example/").status_code == 302
    assert len(sent.sent) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "https://user:secret@hooks.example/",
        "https:///nothing",
        "hooks.example",
        "",
        "https://[::1",
    ],
)
def test_what_is_no_https_url_is_refused_by_its_form(url: str) -> None:
    with pytest.raises(RequestInvalid):
        OutboundPolicy().check_form(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "localhost"])
def test_however_loopback_is_written_it_is_refused(host: str) -> None:
    sent = Recording()
    with client(OutboundPolicy(), sent) as http, pytest.raises((RequestInvalid, Unavailable, httpx.InvalidURL)):
        http.get(f"https://{host}/")
    assert sent.sent == []


def test_an_allowed_host_may_be_anywhere_and_without_tls() -> None:
    sent = Recording()
    policy = OutboundPolicy(["Mlflow.Internal"], resolve=at("10.0.0.7"))
    with client(policy, sent) as http:
        http.get("http://mlflow.internal:5000/api")
    assert (sent.sent[0].url.host, sent.sent[0].url.port) == ("10.0.0.7", 5000)


def test_an_unknown_name_is_refused() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with client(OutboundPolicy(resolve=unknown), Recording()) as http, pytest.raises(RequestInvalid, match="not known"):
        http.get("https://nowhere.example/")


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A TLS server on loopback with a certificate for hooks.example: its port, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "public.pem", tmp_path / "private.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port, public
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("host", "right"), [("hooks.example", True), ("other.example", False)])
def test_the_certificate_must_be_the_names_although_the_connection_goes_to_an_address(
    tls_server: tuple[int, Path], host: str, right: bool
) -> None:
    port, certificate = tls_server
    trusting = ssl.create_default_context(cafile=str(certificate))
    policy = OutboundPolicy([host], resolve=at("127.0.0.1"))

    async def asked() -> str:
        inner = httpx.AsyncHTTPTransport(verify=trusting, trust_env=False)
        async with httpx.AsyncClient(transport=OutboundTransport(policy, inner)) as http:
            return (await http.get(f"https://{host}:{port}/")).text

    if right:
        assert asyncio.run(asked()) == "ok"
        return
    with pytest.raises(httpx.ConnectError, match="certificate"):
        asyncio.run(asked())
