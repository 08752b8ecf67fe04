"""Open event streams and waiting polls are bounded by key and by team, and end with their connections."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.public.accounts import Role, TeamSettings
from craft.errors import RateLimited
from craft.infra.settings.gateway import GatewaySettings
from craft_gateway.access.open_requests import OpenRequests

OPERATOR = "o" * 32
STREAM = {"Accept": "text/event-stream"}


def key_of(rig: Rig, team: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {OPERATOR}", "Craft-Team": team}
    made = rig.post("/craft/api-keys", headers=headers, json={"name": "of a test", "role": Role.EDITOR.value})
    return {"Authorization": f"Bearer {made.json()['key']}"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path, operator_key=OPERATOR) as made:
        for team in ("alpha", "beta"):
            made.teams.put(team, TeamSettings())
        made.settings.gateway = GatewaySettings(open_requests_per_key=3, open_requests_per_team=4)
        made.app = made.new_app()
        yield made


@contextmanager
def streams(url: str, job: str, headers: dict[str, str], count: int) -> Iterator[None]:
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=url, timeout=20))
        for _ in range(count):
            path = f"/craft/jobs/{job}/events"
            answer = stack.enter_context(client.stream("GET", path, headers=headers | STREAM))
            assert answer.status_code == 200
        yield


def test_a_key_has_a_bounded_number_of_streams_and_another_team_has_its_own(rig: Rig) -> None:
    alpha, beta = key_of(rig, "alpha"), key_of(rig, "beta")
    job = rig.post("/craft/jobs", json=body(), headers=alpha).json()["id"]
    with served(rig.app) as url:
        with streams(url, job, alpha, 3):
            refused = httpx.get(f"{url}/craft/jobs/{job}", headers=alpha)
            assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
                *(429, "rate_limited"),
                "10",
            )
            # The team's other key has one request left.
            other = key_of(rig, "alpha")
            with streams(url, job, other, 1):
                assert httpx.get(f"{url}/craft/jobs", headers=other).status_code == 429
            assert httpx.get(f"{url}/craft/jobs", headers=beta).status_code == 200
            operator = {"Authorization": f"Bearer {OPERATOR}", "Craft-Team": "alpha"}
            assert httpx.get(f"{url}/craft/jobs", headers=operator).status_code == 200
        until = time.monotonic() + 10
        while httpx.get(f"{url}/craft/jobs", headers=alpha).status_code != 200:
            assert time.monotonic() < until, "the closed streams are still counted"
            time.sleep(0.05)


def test_chats_are_refused_in_the_form_of_openai(rig: Rig) -> None:
    alpha = key_of(rig, "alpha")
    job = rig.post("/craft/jobs", json=body(), headers=alpha).json()["id"]
    with served(rig.app) as url, streams(url, job, alpha, 3):
        answer = httpx.get(f"{url}/v1/models", headers=alpha)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")


def test_nothing_is_remembered_of_requests_that_ended() -> None:
    requests = OpenRequests(per_key=1, per_team=2)
    for _ in range(3):
        with requests.held(key="a", team="t"), pytest.raises(RateLimited), requests.held(key="a", team="t"):
            pytest.fail("a second request was let in")
    assert not requests._of_key
    assert not requests._of_team
