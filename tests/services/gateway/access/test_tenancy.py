"""Calls every operation of the OpenAPI document with another team's key: nothing of the first team may show."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.public.accounts import TeamSettings
from craft.infra.settings.inference import VllmSettings
from craft_gateway.openai.ids import openai_id

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
SECRET = "the-first-teams-secret"
OPEN = {"/healthz", "/readyz", "/metrics"}


@dataclass(frozen=True)
class Victim:
    """The first team's ids by path parameter, the second team's headers `theirs`, and the first team's state before."""

    rig: Rig
    ids: dict[str, str]
    theirs: dict[str, str]
    before: str

    @property
    def traces(self) -> tuple[str, ...]:
        return (SECRET, "key of first", *(value for name, value in self.ids.items() if name != "team"))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with open_rig(tmp_path_factory.mktemp("rig"), operator_key=OPERATOR_KEY, vllm=VllmSettings()) as rig:
        operator = {"Authorization": f"Bearer {OPERATOR_KEY}"}
        for team in ("first", "second"):
            rig.teams.put(team, TeamSettings())
        keys = {
            team: _admin(rig, operator | {"Craft-Team": team}, name=f"key of {team}") for team in ("first", "second")
        }
        first = {"Authorization": f"Bearer {keys['first']['key']}"}
        job = rig.post("/craft/jobs", json=body(name=SECRET, labels={"plan": SECRET}), headers=first).json()["id"]
        rig.finish(job)
        model = rig.post(f"/craft/jobs/{job}/deploy", headers=first).json()["model"]
        waiting = rig.post("/craft/jobs", json=body(name=SECRET, seed=1), headers=first).json()["id"]
        dataset = rig.get("/craft/datasets", headers=first).json()["data"][0]["id"]
        hook = rig.post("/craft/webhooks", json={"url": f"https://hooks.example.com/{SECRET}"}, headers=first).json()[
            "id"
        ]
        delivery = rig.post(f"/craft/webhooks/{hook}/test", headers=first).json()["id"]
        ids = {"job_id": job, "dataset_id": dataset, "key_id": keys["first"]["id"], "model": model, "team": "first"}
        ids |= {"webhook_id": hook, "delivery_id": delivery}
        ids |= {"file_id": openai_id(dataset), "fine_tuning_job_id": openai_id(job)}
        theirs = {"Authorization": f"Bearer {keys['second']['key']}"}
        yield Victim(rig, ids | {"waiting": waiting}, theirs, _state(rig, first, job))


def _admin(rig: Rig, headers: dict[str, str], *, name: str) -> dict[str, Any]:
    key: dict[str, Any] = rig.post("/craft/api-keys", json={"name": name, "role": "admin"}, headers=headers).json()
    return key


def _state(rig: Rig, first: dict[str, str], job: str) -> str:
    """Return all that the first team reads of its own."""
    paths = (f"jobs/{job}", "jobs", "datasets", "api-keys", f"jobs/{job}/artifacts", "webhooks")
    return "\n".join(rig.get(f"/craft/{path}", headers=first).text for path in paths)


def _operations(rig: Rig) -> list[tuple[str, str, dict[str, Any]]]:
    paths: dict[str, dict[str, dict[str, Any]]] = rig.app.openapi()["paths"]
    return [
        (method.upper(), path, operation)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if path not in OPEN
    ]


def _call(victim: Victim, method: str, path: str, operation: dict[str, Any]) -> httpx.Response:
    names = [item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"]
    unknown = set(names) - set(victim.ids)
    assert not unknown, f"{path} has path parameters that this test does not know: give it the first team's {unknown}"
    filled = path
    for name in names:
        filled = filled.replace(f"{{{name}}}", victim.ids[name]).replace(f"{{{name}:path}}", victim.ids[name])
    options = {"json": _example(operation)} if "requestBody" in operation else {}
    return victim.rig.request(method, filled, headers=victim.theirs, **options)


def _example(operation: dict[str, Any]) -> Any:
    content = operation["requestBody"]["content"].get("application/json", {})
    examples = content.get("examples") or {}
    return next((example["value"] for example in examples.values()), content.get("example", {}))


def test_whatever_names_something_of_another_team_is_not_found(victim: Victim) -> None:
    calls = [(method, path, op) for method, path, op in _operations(victim.rig) if "{" in path]
    assert len(calls) > 20
    statuses = {f"{method} {path}": _call(victim, method, path, op).status_code for method, path, op in calls}
    wrong = {name: status for name, status in statuses.items() if status not in {403, 404}}
    assert wrong == {}
    operator = {"Authorization": f"Bearer {OPERATOR_KEY}", "Craft-Team": "first"}
    assert _state(victim.rig, operator, victim.ids["job_id"]) == victim.before


def test_what_lists_or_makes_things_shows_nothing_of_another_team(victim: Victim) -> None:
    for method, path, operation in _operations(victim.rig):
        if "{" in path:
            continue
        answer = _call(victim, method, path, operation)
        shown = [trace for trace in victim.traces if trace in answer.text]
        assert shown == [], f"{method} {path} answers {answer.status_code} with {shown}"
        assert answer.status_code < 500


def test_the_second_prefix_keeps_them_apart_as_well(victim: Victim) -> None:
    answer = victim.rig.get(f"/v1/craft/jobs/{victim.ids['job_id']}", headers=victim.theirs)
    assert answer.status_code == 404


def test_a_body_that_names_another_teams_things_finds_none(victim: Victim) -> None:
    post, dataset = victim.rig.post, victim.ids["dataset_id"]
    bodies = (body(dataset={"id": dataset}), body(evaluation=[{"dataset": dataset, "role": "out_of_domain"}]))
    for request in bodies:
        for path in ("/craft/jobs", "/craft/jobs/validate"):
            assert post(path, json=request, headers=victim.theirs).status_code == 422
    chat = {"model": victim.ids["model"], "messages": [{"role": "user", "content": "?"}]}
    assert post("/v1/chat/completions", json=chat, headers=victim.theirs).status_code == 404


def test_pages_do_not_go_on_from_another_teams_entries(victim: Victim) -> None:
    for path, after in (("jobs", victim.ids["waiting"]), ("datasets", victim.ids["dataset_id"])):
        answer = victim.rig.get(f"/craft/{path}", params={"after": after}, headers=victim.theirs)
        assert all(trace not in str(answer.json()["data"]) for trace in victim.traces)
    entry = f"{victim.ids['job_id']}.1"
    refused = victim.rig.get("/craft/audit", params={"after": entry}, headers=victim.theirs)
    assert refused.status_code == 422
    by_subject = victim.rig.get("/craft/audit", params={"subject": victim.ids["job_id"]}, headers=victim.theirs)
    assert by_subject.json()["data"] == []
