"""Identification by tokens of a real OpenID Connect issuer on this machine, and by forged ones."""

import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from oidc_provider_mock import app as issuer_app
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig
from werkzeug.serving import BaseWSGIServer, make_server

from craft.contracts.public.accounts import TeamSettings
from craft.errors import Unauthenticated, Unavailable
from craft.infra.settings.gateway import OidcSettings
from craft_gateway.access.oidc import Oidc

# The issuer is written against an older Authlib than the newest.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
AUDIENCE = "craft"
BACK = "http://127.0.0.1/back"


class Issuer:
    """An OpenID Connect provider with users who have groups."""

    def __init__(self, *, max_age: timedelta = timedelta(hours=1)) -> None:
        app = issuer_app(access_token_max_age=max_age)
        self.server: BaseWSGIServer = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, subject: str, *groups: str, audience: str = AUDIENCE) -> str:
        """Log the user in and return the ID token."""
        with httpx.Client(base_url=self.url) as http:
            http.put(f"/users/{subject}", json={"groups": list(groups)}).raise_for_status()
            query = {
                "client_id": audience,
                "redirect_uri": BACK,
                "response_type": "code",
                "scope": "openid",
                "nonce": subject,
            }
            sent = http.post("/oauth2/authorize", params=query, data={"sub": subject})
            code = parse_qs(urlsplit(sent.headers["Location"]).query)["code"][0]
            exchange = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "client_id": audience}
            answer = http.post("/oauth2/token", data=exchange, auth=(audience, "secret")).raise_for_status()
        return str(answer.json()["id_token"])

    def settings(self, **changes: Any) -> OidcSettings:
        return OidcSettings(issuer=self.url, audience=AUDIENCE, **changes)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def oidc(issuer: Issuer) -> Iterator[Oidc]:
    oidc = Oidc(issuer.settings())
    yield oidc
    oidc.close()


@pytest.fixture
def rig(tmp_path: Path, oidc: Oidc) -> Iterator[Rig]:
    with open_rig(tmp_path, oidc=oidc) as opened:
        yield opened


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_groups_are_roles_in_teams(rig: Rig, issuer: Issuer) -> None:
    token = issuer.token("ada", "staff", "craft:default:editor", "craft:search:viewer", "craft:search:owner")
    me = rig.get("/craft/me", headers=bearer(token)).json()
    assert (me["actor"], me["team"], me["teams"]) == ("oidc:ada", "default", ["default", "search"])
    assert rig.post("/craft/jobs", json=body(), headers=bearer(token)).status_code == 202
    rig.teams.put("search", TeamSettings())
    assert rig.get("/craft/jobs", headers=bearer(token) | {"Craft-Team": "search"}).json()["data"] == []
    refused = rig.post("/craft/jobs", json=body(), headers=bearer(token) | {"Craft-Team": "search"})
    assert refused.status_code == 403


def test_an_operator_is_one_by_a_group(rig: Rig, issuer: Issuer) -> None:
    token = issuer.token("root", "craft:operator")
    assert rig.request("PUT", "/craft/teams/new", json={}, headers=bearer(token)).status_code == 201


def test_who_is_in_several_teams_says_which(rig: Rig, issuer: Issuer) -> None:
    for team in ("ads", "search"):
        rig.teams.put(team, TeamSettings())
    token = issuer.token("bob", "craft:ads:editor", "craft:search:viewer")
    answer = rig.get("/craft/jobs", headers=bearer(token))
    assert (answer.status_code, answer.json()["param"]) == (422, "Craft-Team")
    assert rig.get("/craft/jobs", headers=bearer(token) | {"Craft-Team": "ads"}).status_code == 200


def test_the_audit_names_the_person(rig: Rig, issuer: Issuer) -> None:
    token = issuer.token("ada", "craft:default:admin")
    rig.post("/craft/jobs", json=body(), headers=bearer(token))
    actors = {entry["actor"] for entry in rig.get("/craft/audit", headers=bearer(token)).json()["data"]}
    assert actors == {"oidc:ada"}


def test_a_token_without_groups_of_ours_opens_nothing(rig: Rig, issuer: Issuer) -> None:
    answer = rig.get("/craft/jobs", headers=bearer(issuer.token("eve", "staff")))
    assert (answer.status_code, "craft:search:editor" in answer.json()["hint"]) == (401, True)


def test_a_token_for_another_audience_opens_nothing(oidc: Oidc, issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="udience"):
        oidc.identify(issuer.token("ada", "craft:operator", audience="another"))


def test_an_issuer_of_another_name_is_another_issuer(issuer: Issuer) -> None:
    other = Oidc(issuer.settings().model_copy(update={"issuer": issuer.url.replace("127.0.0.1", "localhost")}))
    with pytest.raises(Unauthenticated, match="ssuer"):
        other.identify(issuer.token("ada", "craft:operator"))
    other.close()


def _claims(issuer: Issuer, **changes: Any) -> Mapping[str, Any]:
    return {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "mallory",
        "exp": 4_000_000_000,
        "groups": ["craft:operator"],
        **changes,
    }


def _forged(issuer: Issuer) -> dict[str, str]:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = httpx.get(httpx.get(f"{issuer.url}/.well-known/openid-configuration").json()["jwks_uri"]).text
    return {
        "signed by another key": jwt.encode(dict(_claims(issuer)), own, algorithm="RS256"),
        "signed by nobody": jwt.encode(dict(_claims(issuer)), "", algorithm="none"),
        "signed with the public key": jwt.encode(dict(_claims(issuer)), public[:64].ljust(64), algorithm="HS256"),
        "an unknown key's id": jwt.encode(dict(_claims(issuer)), own, algorithm="RS256", headers={"kid": "another"}),
        "no token": "a.b.c",
        "empty parts": "..",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "signed by another key",
        "signed by nobody",
        "signed with the public key",
        "an unknown key's id",
        "no token",
        "empty parts",
    ],
)
def test_a_forged_token_opens_nothing(oidc: Oidc, issuer: Issuer, kind: str) -> None:
    with pytest.raises(Unauthenticated):
        oidc.identify(_forged(issuer)[kind])


def test_an_expired_token_opens_nothing() -> None:
    late = Issuer(max_age=timedelta(hours=-1))
    oidc = Oidc(late.settings())
    with pytest.raises(Unauthenticated, match="expired"):
        oidc.identify(late.token("ada", "craft:operator"))
    oidc.close()
    late.stop()


class CountingTransport(httpx.BaseTransport):
    """Counts requests, and forwards them while the issuer is up."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.requests = 0
        self.up = True

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if not self.up:
            raise httpx.ConnectError("down")
        return self.inner.handle_request(request)


def test_keys_are_kept_and_an_issuer_that_is_down_stops_nobody_known(issuer: Issuer) -> None:
    transport, now = CountingTransport(), [0.0]
    oidc = Oidc(issuer.settings(), http=httpx.Client(transport=transport), clock=lambda: now[0])
    token = issuer.token("ada", "craft:operator")
    for _ in range(5):
        oidc.identify(token)
    assert transport.requests == 2
    transport.up = False
    now[0] = 7_200.0
    assert oidc.identify(token).operator
    oidc.close()


def test_unknown_keys_do_not_make_us_ask_the_issuer_again_and_again(issuer: Issuer) -> None:
    transport, now = CountingTransport(), [0.0]
    oidc = Oidc(issuer.settings(), http=httpx.Client(transport=transport), clock=lambda: now[0])
    forged = _forged(issuer)["an unknown key's id"]
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            oidc.identify(forged)
    assert transport.requests == 2
    now[0] = 31.0
    with pytest.raises(Unauthenticated):
        oidc.identify(forged)
    assert transport.requests == 4
    oidc.close()


def test_an_issuer_that_was_never_reached_is_said_to_be_away(issuer: Issuer) -> None:
    transport = CountingTransport()
    transport.up = False
    oidc = Oidc(issuer.settings(), http=httpx.Client(transport=transport))
    with pytest.raises(Unavailable):
        oidc.identify(issuer.token("ada", "craft:operator"))
    oidc.close()
