"""A poll is answered before routing as the route itself would answer it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.public.accounts import TeamSettings
from craft_gateway.access.identity import Identity
from craft_gateway.access.owners import OWNED, OwnerLookup
from craft_gateway.job_views.poll_middleware import MAX_CONDITION_LENGTH, PollMiddleware
from craft_gateway.job_views.response_cache import JobResponseCache

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
UNKNOWN = f"cjob_{'0' * 26}"
SHOWN = ("etag", "cache-control", "retry-after", "content-type", "www-authenticate")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig"), operator_key=OPERATOR_KEY) as made:
        for team in ("first", "second"):
            made.teams.put(team, TeamSettings())
        yield made


@pytest.fixture(scope="module")
def job(rig: Rig) -> str:
    answer = rig.post("/craft/jobs", json=body(), headers=OPERATOR | {"Craft-Team": "first"})
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def ended(rig: Rig) -> str:
    answer = rig.post("/craft/jobs", json=body(seed=1), headers=OPERATOR | {"Craft-Team": "first"})
    made = str(answer.json()["id"])
    rig.post(f"/craft/jobs/{made}/cancel", headers=OPERATOR)
    return made


def key_of(rig: Rig, team: str, **wanted: Any) -> dict[str, str]:
    made = rig.post("/craft/api-keys", json={"name": team, **wanted}, headers=OPERATOR | {"Craft-Team": team}).json()
    return {"Authorization": f"Bearer {made['key']}"}


def both(rig: Rig, job_id: str, headers: dict[str, str]) -> tuple[httpx.Response, httpx.Response]:
    """As a poll, and through the route: with a parameter that says nothing."""
    return tuple(rig.get(f"/craft/jobs/{job_id}{way}", headers=headers) for way in ("", "?wait=0"))  # type: ignore[return-value]


def same(poll: httpx.Response, routed: httpx.Response) -> bool:
    def shown(answer: httpx.Response) -> Any:
        content = answer.json() if answer.content else {}
        content.pop("request_id", None)
        return answer.status_code, content, [answer.headers.get(name) for name in SHOWN]

    return bool(shown(poll) == shown(routed))


def test_whoever_may_see_the_job_sees_the_same(rig: Rig, job: str, ended: str) -> None:
    for job_id in (job, ended):
        for headers in (OPERATOR, key_of(rig, "first", role="viewer")):
            poll, routed = both(rig, job_id, headers)
            assert poll.status_code == 200
            assert same(poll, routed)
            condition = headers | {"If-None-Match": f'"another", W/{poll.headers["etag"]}'}
            poll, routed = both(rig, job_id, condition)
            assert (poll.status_code, poll.content) == (304, b"")
            assert same(poll, routed)


def test_whoever_may_not_is_told_the_same(rig: Rig, job: str) -> None:
    models_only = key_of(rig, "first", role="viewer", scopes=["models:read"])
    cases: list[tuple[int, str, dict[str, str]]] = [
        (401, job, {}),
        (401, job, {"Authorization": "Bearer craft_sk_wrong"}),
        (403, job, models_only),
        (404, job, key_of(rig, "second")),
        (403, job, key_of(rig, "second") | {"Craft-Team": "first"}),
        (404, job, OPERATOR | {"Craft-Team": "nobody"}),
        (404, UNKNOWN, OPERATOR),
        (404, "x", OPERATOR),
        (422, job, OPERATOR | {"If-None-Match": "x" * (MAX_CONDITION_LENGTH + 1)}),
    ]
    for status, job_id, headers in cases:
        poll, routed = both(rig, job_id, headers)
        assert poll.status_code == status
        assert same(poll, routed)
        assert poll.json()["request_id"] == poll.headers["x-request-id"]


def test_polls_and_the_routes_answers_are_one_line_of_metrics(rig: Rig, job: str) -> None:
    def count() -> float:
        wanted = 'route="/craft/jobs/{job_id}",service="gateway",status="200"}'
        lines = rig.get("/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("craft_http_requests_total") and wanted in line
        )

    before = count()
    both(rig, job, OPERATOR)
    assert count() == before + 2


def test_head_is_a_poll_without_a_body_and_nothing_else_is_one(rig: Rig, job: str) -> None:
    head, poll = (rig.request(method, f"/craft/jobs/{job}", headers=OPERATOR) for method in ("HEAD", "GET"))
    assert [head.headers[name] for name in ("etag", "content-length")] == [poll.headers["etag"], str(len(poll.content))]
    assert (head.status_code, head.content) == (200, b"")
    assert rig.request("HEAD", f"/craft/jobs/{job}").status_code == 401
    assert rig.request("DELETE", f"/craft/jobs/{job}", headers=OPERATOR).status_code == 405


def test_a_poll_never_reaches_the_routes(rig: Rig, job: str) -> None:
    async def routes(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope["path"])

    owners = OwnerLookup(rig.database, OWNED)
    asked = PollMiddleware(routes, owners=owners, responses=JobResponseCache(rig.reader))

    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"identity": Identity("operator", {}, operator=True)}
        await asked(scope, receive, send)

    async def get(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=known)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, headers={"Craft-Team": "first"})

    assert asyncio.run(get(f"/craft/jobs/{job}")).json()["id"] == job
    assert asyncio.run(get(f"/craft/jobs/{UNKNOWN}")).status_code == 404
    with pytest.raises(AssertionError):
        asyncio.run(get(f"/craft/jobs/{job}?wait=0"))
