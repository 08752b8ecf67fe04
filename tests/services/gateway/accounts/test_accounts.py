"""Keys, roles, teams and the audit over HTTP: identification, scopes, and the separation of teams."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.public.accounts import SCOPES_OF, Role
from craft_gateway.access.authentication import RateLimits

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path, operator_key=OPERATOR_KEY) as opened:
        yield opened


def bearer(key: str, team: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} | ({"Craft-Team": team} if team else {})


def operator(team: str | None = None) -> dict[str, str]:
    return bearer(OPERATOR_KEY, team)


def new_team(rig: Rig, name: str, **settings: Any) -> None:
    assert rig.request("PUT", f"/craft/teams/{name}", json=settings, headers=operator()).status_code == 201


def new_key(rig: Rig, team: str = "default", **request: Any) -> dict[str, Any]:
    answer = rig.post("/craft/api-keys", json={"name": "a key", **request}, headers=operator(team))
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic b3BlcmF0b3I6"},
        bearer("craft_sk_"),
        bearer("craft_sk_01jgywz3x4v5q6r7s8t9vawbxc_" + "A" * 43),
        bearer("' OR 1=1 --"),
        bearer("x" * 100_000),
        bearer("a.b.c"),
    ],
)
def test_without_a_right_key_nothing_opens(rig: Rig, headers: dict[str, str]) -> None:
    answer = rig.get("/craft/jobs", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "request_id" in answer.json()


def test_openais_routes_refuse_in_openais_words(rig: Rig) -> None:
    answer = rig.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert rig.get("/v1/craft/jobs").json()["code"] == "unauthorized"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_what_operates_the_server_needs_no_key(rig: Rig, path: str) -> None:
    assert rig.get(path).status_code == 200


def test_a_body_is_not_read_before_its_sender_is_known(rig: Rig) -> None:
    answer = rig.post("/craft/datasets", content=b"{" * 10_000_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


def test_a_key_is_shown_once_and_its_team_is_its_own(rig: Rig) -> None:
    new_team(rig, "search")
    key = new_key(rig, "search", role="editor")
    assert key["key"].startswith("craft_sk_")
    mine = bearer(key["key"])
    assert rig.get("/craft/me", headers=mine).json() == {
        "object": "craft.caller",
        "actor": key["id"],
        "team": "search",
        "scopes": sorted(SCOPES_OF[Role.EDITOR]),
        "operator": False,
        "teams": ["search"],
    }
    listed = rig.get("/craft/api-keys", headers=operator("search")).json()["data"]
    assert [row["id"] for row in listed] == [key["id"]]
    assert "key" not in listed[0]
    assert "secret" not in str(listed)


def test_the_database_holds_nothing_that_opens_anything(rig: Rig, tmp_path: Path) -> None:
    secret = new_key(rig)["key"].split("_", maxsplit=3)[3]  # it may itself contain "_"
    assert len(secret) == 43
    with sqlite3.connect(tmp_path / "craft.db") as connection:
        assert secret not in "\n".join(connection.iterdump())
    connection.close()


def test_a_revoked_key_opens_nothing(rig: Rig) -> None:
    key = new_key(rig)
    for _ in range(2):
        answer = rig.post(f"/craft/api-keys/{key['id']}/revoke", headers=operator())
        assert answer.status_code == 200
        assert answer.json()["revoked_at"] is not None
    assert rig.get("/craft/jobs", headers=bearer(key["key"])).status_code == 401
    assert rig.get(f"/craft/api-keys/{key['id']}", headers=operator()).json() == answer.json()


def test_an_expired_key_opens_nothing(rig: Rig) -> None:
    key = new_key(rig, expires_in_days=1e-9)
    assert rig.get("/craft/jobs", headers=bearer(key["key"])).status_code == 401


def test_a_key_that_was_used_says_so(rig: Rig) -> None:
    key = new_key(rig)
    assert key["last_used_at"] is None
    rig.get("/craft/jobs", headers=bearer(key["key"]))
    assert rig.get(f"/craft/api-keys/{key['id']}", headers=operator()).json()["last_used_at"] is not None


@pytest.mark.parametrize(
    ("role", "statuses"),
    [
        ("viewer", {"list": 200, "submit": 403, "upload": 403, "keys": 403, "teams": 403, "gc": 403}),
        ("editor", {"list": 200, "submit": 202, "upload": 201, "keys": 403, "teams": 403, "gc": 403}),
        ("admin", {"list": 200, "submit": 202, "upload": 201, "keys": 200, "teams": 403, "gc": 403}),
    ],
)
def test_each_role_may_what_it_may(rig: Rig, role: str, statuses: dict[str, int]) -> None:
    mine = bearer(new_key(rig, role=role)["key"])
    answers = {
        "list": rig.get("/craft/jobs", headers=mine),
        "submit": rig.post("/craft/jobs", json=body(), headers=mine),
        "upload": rig.post("/craft/datasets", json={"rows": body()["dataset"]["rows"]}, headers=mine),
        "keys": rig.get("/craft/api-keys", headers=mine),
        "teams": rig.get("/craft/teams", headers=mine),
        "gc": rig.post("/craft/gc", headers=mine),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == statuses
    assert {answer.json()["code"] for answer in answers.values() if answer.status_code == 403} == {"forbidden"}


def test_a_key_may_be_limited_to_scopes_and_gives_no_more_than_it_has(rig: Rig) -> None:
    limited = bearer(new_key(rig, role="admin", scopes=["jobs:read", "team:read", "team:write"])["key"])
    assert rig.get("/craft/jobs", headers=limited).status_code == 200
    assert rig.get("/craft/datasets", headers=limited).status_code == 403
    beyond = rig.post("/craft/api-keys", json={"name": "more", "role": "editor"}, headers=limited)
    assert (beyond.status_code, beyond.json()["code"]) == (403, "forbidden")
    same = rig.post("/craft/api-keys", json={"name": "same", "scopes": ["jobs:read"]}, headers=limited)
    assert same.json()["scopes"] == ["jobs:read"]


def test_scopes_that_the_role_has_not_are_refused(rig: Rig) -> None:
    answer = rig.post(
        "/craft/api-keys", json={"name": "x", "role": "viewer", "scopes": ["jobs:write"]}, headers=operator()
    )
    assert (answer.status_code, answer.json()["param"]) == (422, "scopes")


def test_a_team_that_does_not_exist_is_said(rig: Rig) -> None:
    answer = rig.get("/craft/jobs", headers=operator("nobody"))
    assert (answer.status_code, answer.json()["param"]) == (404, "Craft-Team")


def test_another_team_is_not_to_be_named(rig: Rig) -> None:
    new_team(rig, "search")
    answer = rig.get("/craft/jobs", headers=bearer(new_key(rig)["key"], "search"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_what_is_another_teams_is_not_there(rig: Rig) -> None:
    new_team(rig, "search")
    new_team(rig, "ads")
    theirs, mine = (bearer(new_key(rig, team, role="admin")["key"]) for team in ("search", "ads"))
    job = rig.post("/craft/jobs", json=body(name="secret plan"), headers=theirs).json()
    dataset = rig.get("/craft/datasets", headers=theirs).json()["data"][0]["id"]
    key = rig.get("/craft/api-keys", headers=theirs).json()["data"][0]["id"]
    unknown = rig.get("/craft/jobs/cjob_01jgywz3x4v5q6r7s8t9vawbxc", headers=mine).json()
    for path in (f"jobs/{job['id']}", f"jobs/{job['id']}/stages", f"jobs/{job['id']}/events"):
        answer = rig.get(f"/craft/{path}", headers=mine)
        assert answer.status_code == 404
        assert answer.json() | {"request_id": ""} == unknown | {"request_id": ""}
    assert rig.get(f"/craft/datasets/{dataset}", headers=mine).status_code == 404
    assert rig.get(f"/craft/api-keys/{key}", headers=mine).status_code == 404
    for collection in ("jobs", "datasets", "queue"):
        assert rig.get(f"/craft/{collection}", headers=mine).json()["data"] == []
    assert "secret plan" not in rig.get("/craft/queue", headers=mine).text
    used = rig.post("/craft/jobs", json=body(dataset={"id": dataset}), headers=mine)
    assert (used.status_code, used.json()["param"]) == (422, "dataset.id")
    assert rig.get(f"/craft/jobs/{job['id']}", headers=operator()).status_code == 200


def test_the_same_rows_are_each_teams_own_dataset(rig: Rig) -> None:
    new_team(rig, "search")
    new_team(rig, "ads")
    rows = {"rows": body()["dataset"]["rows"]}
    ids = {
        rig.post("/craft/datasets", json=rows, headers=operator(team)).json()["id"] for team in ("search", "ads", "ads")
    }
    assert len(ids) == 2


def test_an_idempotency_key_is_a_teams_own(rig: Rig) -> None:
    new_team(rig, "search")
    request = {"json": body(), "headers": operator() | {"Idempotency-Key": "one"}}
    first, again = rig.post("/craft/jobs", **request).json()["id"], rig.post("/craft/jobs", **request).json()["id"]
    request["headers"] |= {"Craft-Team": "search"}
    others = {rig.post("/craft/jobs", **request).json()["id"] for _ in range(2)}
    assert first == again
    assert len(others) == 1
    assert others != {first}


def test_teams_have_weights_and_quotas_that_operators_change(rig: Rig) -> None:
    new_team(rig, "search", weight=2.0)
    changed = rig.request("PUT", "/craft/teams/search", json={"max_running_jobs": 3}, headers=operator())
    assert (changed.status_code, changed.json()["weight"], changed.json()["max_running_jobs"]) == (200, 1.0, 3)
    listed = rig.get("/craft/teams", headers=operator()).json()
    assert [team["name"] for team in listed["data"]] == ["search"]
    assert rig.get("/craft/teams/nobody", headers=operator()).status_code == 404
    bad = rig.request("PUT", "/craft/teams/search", json={"weight": 0}, headers=operator())
    assert bad.status_code == 422


def test_the_audit_tells_who_did_what(rig: Rig) -> None:
    key = new_key(rig, role="admin")
    mine = bearer(key["key"])
    job = rig.post("/craft/jobs", json=body(), headers=mine).json()["id"]
    rig.post(f"/craft/jobs/{job}/cancel", headers=operator())
    entries = rig.get("/craft/audit", headers=mine).json()["data"]
    deeds = [(entry["type"], entry["actor"]) for entry in reversed(entries)]
    assert deeds[0] == ("key.created", "operator")
    assert ("job.created", key["id"]) in deeds
    assert deeds[-1] == ("job.cancelled", "operator")
    of_job = rig.get("/craft/audit", params={"subject": job}, headers=mine).json()["data"]
    assert {entry["subject"] for entry in of_job} == {job}


def test_the_audit_comes_in_pages(rig: Rig) -> None:
    for _ in range(5):
        new_key(rig)
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = rig.get("/craft/audit", params={"limit": 2, **after}, headers=operator()).json()
        seen += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert len(seen) == len(set(seen)) == 5
    unknown = rig.get("/craft/audit", params={"after": "nothing.1"}, headers=operator())
    assert (unknown.status_code, unknown.json()["param"]) == (422, "after")


def test_what_workers_do_is_nobodys_deed(rig: Rig) -> None:
    job = rig.post("/craft/jobs", json=body(), headers=operator()).json()["id"]
    rig.finish(job)
    types = {entry["type"] for entry in rig.get("/craft/audit", headers=operator()).json()["data"]}
    assert "job.created" in types
    assert "job.succeeded" not in types


def test_too_many_requests_with_one_key_wait_and_others_do_not(tmp_path: Path) -> None:
    now = [0.0]
    limits = RateLimits(1.0, burst=3, clock=lambda: now[0])
    with open_rig(tmp_path, operator_key=OPERATOR_KEY, limits=limits) as rig:
        other = bearer(new_key(rig)["key"])
        assert [rig.get("/craft/me", headers=operator()).status_code for _ in range(3)] == [200, 200, 429]
        refused = rig.get("/craft/me", headers=operator())
        assert (refused.headers["Retry-After"], refused.json()["code"]) == ("1", "rate_limited")
        assert refused.json()["retryable"] is True
        assert rig.get("/craft/me", headers=other).status_code == 200
        now[0] = 1.0
        assert rig.get("/craft/me", headers=operator()).status_code == 200


def test_a_machine_of_ones_own_asks_for_no_key(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        me = rig.get("/craft/me").json()
    assert (me["actor"], me["team"], me["operator"]) == ("local", "default", True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "craft.example:8080"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_keys_a_website_cannot_reach_it_through_the_browser(tmp_path: Path, headers: dict[str, str]) -> None:
    with open_rig(tmp_path) as rig:
        assert rig.get("/craft/jobs", headers=headers).status_code == 401
        assert rig.get("/craft/jobs", headers={"Origin": "http://localhost:8080"}).status_code == 200


def test_without_keys_what_openais_clients_send_as_a_key_opens_nothing_more(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        assert rig.get("/craft/me", headers=bearer("unused")).json()["actor"] == "local"
        assert rig.get("/craft/me", headers=bearer("craft_sk_wrong")).status_code == 401
        own = rig.post("/craft/api-keys", json={"name": "own", "role": "viewer"}).json()
        assert rig.get("/craft/me", headers=bearer(own["key"])).json()["actor"] == own["id"]
