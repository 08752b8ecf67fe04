"""The services' own ports answer who has their token and no web page; metrics are this machine's and Prometheus's."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from starlette.middleware import Middleware

from craft.contracts.problems import Problem
from craft.infra.http.app import create_app
from craft.infra.http.service_access import MetricsAccess, own_checks_access, service_access
from craft.infra.settings.listen import Listen
from craft.infra.settings.settings import Settings

TOKEN = SecretStr("the-token-of-the-services")
METRICS_TOKEN = SecretStr("the-token-of-the-metrics")
SETTINGS = Settings(service_token=TOKEN, metrics_token=METRICS_TOKEN)
LOCAL, OPEN = Listen(host="127.0.0.1", port=1), Listen(host="0.0.0.0", port=1)
BEARER = {"Authorization": f"Bearer {TOKEN.get_secret_value()}"}
SCRAPER = {"Authorization": f"Bearer {METRICS_TOKEN.get_secret_value()}"}
FOREIGN: dict[str, Mapping[str, str]] = {
    "a page of another site": {"Sec-Fetch-Site": "cross-site"},
    "a page of another origin": {"Origin": "https://evil.example"},
    "a page without an origin": {"Origin": "null"},
}


def ask(
    path: str = "/v1/called",
    headers: Mapping[str, str] | None = None,
    *,
    access: Sequence[Middleware],
    host: str = "127.0.0.1",
    peer: str = "127.0.0.1",
    method: str = "POST",
) -> httpx.Response:
    routes = APIRouter()

    @routes.post("/v1/called")
    async def called() -> str:
        return "done"

    app = create_app(title="A", service="a", routers=[routes], inner=access)

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8081") as client:
            return await client.request(method, path, headers=dict(headers or {}))

    return asyncio.run(exchange())


@pytest.mark.parametrize("listen", [LOCAL, OPEN])
def test_a_call_needs_the_token_wherever_the_service_listens(listen: Listen) -> None:
    access = service_access(SETTINGS, listen)
    assert ask(headers=BEARER, access=access).status_code == 200
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Basic x"}, SCRAPER):
        answer = ask(headers=headers, access=access)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "CRAFT_SERVICE_TOKEN" in (Problem.model_validate_json(answer.content).hint or "")


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("listen", [LOCAL, OPEN])
def test_a_web_page_of_others_is_refused_even_with_the_token(listen: Listen, kind: str) -> None:
    assert ask(headers={**BEARER, **FOREIGN[kind]}, access=service_access(SETTINGS, listen)).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"])
def test_a_service_of_this_machine_has_no_other_name(host: str) -> None:
    answers = [ask(headers=BEARER, host=host, access=service_access(SETTINGS, listen)) for listen in (LOCAL, OPEN)]
    assert [answer.status_code for answer in answers] == [401, 200]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_service_of_this_machine_has_the_names_of_loopback(host: str) -> None:
    headers = {**BEARER, "Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
    assert ask(headers=headers, host=host, access=service_access(SETTINGS, LOCAL)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("listen", [LOCAL, OPEN])
def test_probes_are_open(path: str, listen: Listen) -> None:
    assert ask(path, access=service_access(SETTINGS, listen), host="pod.example", method="GET").status_code == 200


def test_the_document_is_open_but_not_to_web_pages_of_others() -> None:
    access = service_access(SETTINGS, LOCAL)
    assert ask("/openapi.json", access=access, method="GET").status_code == 200
    assert ask("/openapi.json", FOREIGN["a page of another site"], access=access, method="GET").status_code == 401


def test_an_empty_token_opens_nothing() -> None:
    access = service_access(Settings(), LOCAL)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"}):
        assert ask(headers=headers, access=access).status_code == 401


def test_a_service_whose_routes_check_a_token_is_guarded_against_web_pages_too() -> None:
    access = own_checks_access(SETTINGS, LOCAL)
    assert ask(access=access).status_code == 200
    assert ask(access=access, host="evil.example").status_code == 401
    assert ask(headers=FOREIGN["a page of another site"], access=access).status_code == 401


ACCESSES = {
    "service": service_access(SETTINGS, OPEN),
    "coordinator": own_checks_access(SETTINGS, OPEN),
    "gateway": [Middleware(MetricsAccess, token=METRICS_TOKEN)],
}


@pytest.mark.parametrize("kind", ACCESSES)
def test_metrics_are_shown_to_this_machine_and_to_who_has_their_token(kind: str) -> None:
    access = ACCESSES[kind]

    def status(headers: Mapping[str, str], host: str = "127.0.0.1", peer: str = "127.0.0.1") -> int:
        return ask("/metrics", headers, access=access, host=host, peer=peer, method="GET").status_code

    assert status({}) == status({}, host="localhost", peer="::1") == status({}, peer="::ffff:127.0.0.1") == 200
    assert status(SCRAPER, host="craft.example", peer="10.1.2.3") == 200
    assert status({}, peer="10.1.2.3") == status(BEARER, peer="10.1.2.3") == status({}, peer="") == 401
    # A proxy on this machine is no caller of this machine; nor is a page in its browser.
    assert status({"X-Forwarded-For": "1.2.3.4"}) == status({"Forwarded": "for=1.2.3.4"}) == 401
    assert status({}, host="craft.example") == status(FOREIGN["a page of another site"]) == 401


def test_without_their_token_metrics_are_shown_to_this_machine_alone() -> None:
    access = service_access(Settings(service_token=TOKEN), OPEN)
    assert ask("/metrics", access=access, method="GET").status_code == 200
    assert (
        ask("/metrics", {"Authorization": "Bearer "}, access=access, peer="10.1.2.3", method="GET").status_code == 401
    )
