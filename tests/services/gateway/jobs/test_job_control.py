"""Pause, resume, retry, teams and attempts over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, body, open_rig

from craft.contracts.public.accounts import TeamSettings
from craft.errors import TooFewKnown, WorkerLost


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        made.teams.put("search", TeamSettings(max_running_jobs=1))
        yield made


def test_a_job_is_paused_and_resumed(rig: Rig) -> None:
    job_id = rig.submit()
    answer = rig.post(f"/craft/jobs/{job_id}/pause")
    assert (answer.status_code, answer.json()["status"], answer.json()["status_reason"]) == (200, "paused", "paused")
    assert rig.post(f"/craft/jobs/{job_id}/resume").json()["status"] == "queued"
    rig.finish(job_id)
    types = [event["type"] for event in rig.get(f"/craft/jobs/{job_id}/events").json()["data"]]
    assert types[2:5] == ["job.pausing", "job.paused", "job.resumed"]
    assert types[-1] == "job.succeeded"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_ended_job_can_be_neither_paused_nor_resumed(rig: Rig, verb: str) -> None:
    job_id = rig.submit()
    rig.post(f"/craft/jobs/{job_id}/cancel")
    answer = rig.post(f"/craft/jobs/{job_id}/{verb}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
@pytest.mark.parametrize("job_id", [UNKNOWN_JOB, "cjob_1", "..%2f..%2fetc"])
def test_an_unknown_job_is_not_found(rig: Rig, verb: str, job_id: str) -> None:
    assert rig.post(f"/craft/jobs/{job_id}/{verb}").status_code == 404


def test_a_failed_job_is_done_again_as_a_new_one_that_starts_at_the_failed_stage(rig: Rig) -> None:
    first = rig.submit()
    rig.complete(rig.claim(first))
    rig.fail(rig.claim(first), TooFewKnown("The model knows 3 of 50."))
    answer = rig.post(f"/craft/jobs/{first}/retry")
    assert answer.status_code == 202
    second = answer.json()
    assert answer.headers["Location"] == f"/craft/jobs/{second['id']}"
    assert (second["retry_of"], second["status"]) == (first, "queued")
    assert [stage["name"] for stage in second["stages"] if stage["reused"]] == ["ingest"]
    assert rig.get(f"/craft/jobs/{first}").json()["status"] == "failed"
    rig.finish(second["id"])


@pytest.mark.parametrize(
    ("versions", "reused"), [(None, ["ingest", "probe:initial"]), ("transformers 9.9", ["ingest"])]
)
def test_a_job_of_an_engine_that_is_gone_is_done_again_with_the_present_one(
    rig: Rig, versions: str | None, reused: list[str]
) -> None:
    first = rig.submit()
    for _ in range(2):
        rig.complete(rig.claim(first))
    rig.fail(rig.claim(first), TooFewKnown("The model knows 3 of 50."))
    if versions:
        inference = rig.settings.inference.model_copy(update={"versions": versions})
        rig.settings = rig.settings.model_copy(update={"inference": inference})
        rig.app = rig.new_app()
    before = rig.get(f"/craft/jobs/{first}").json()["resolved"]["engine"]["versions"]
    second = rig.post(f"/craft/jobs/{first}/retry").json()
    assert second["resolved"]["engine"]["versions"] == (versions or before)
    assert [stage["name"] for stage in second["stages"] if stage["reused"]] == reused


def test_a_succeeded_job_is_computed_again_from_the_stage_that_is_named(rig: Rig) -> None:
    first = rig.submit()
    rig.finish(first)
    refused = rig.post(f"/craft/jobs/{first}/retry")
    assert (refused.status_code, refused.json()["hint"]) == (409, "Name in `from_stage` where to compute again.")
    second = rig.post(f"/craft/jobs/{first}/retry", json={"from_stage": "answer:cor-rait"}).json()
    again = [stage["name"] for stage in second["stages"] if not stage["reused"]]
    assert again == ["answer:cor-rait", "evaluate:cor-rait", "package:cor-rait", "report"]


def test_a_job_that_goes_on_cannot_be_retried(rig: Rig) -> None:
    answer = rig.post(f"/craft/jobs/{rig.submit()}/retry")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "The job is queued; only one that has ended can be done again.",
    )


def test_an_unknown_stage_is_refused_with_the_jobs_own(rig: Rig) -> None:
    job_id = rig.submit()
    rig.post(f"/craft/jobs/{job_id}/cancel")
    answer = rig.post(f"/craft/jobs/{job_id}/retry", json={"from_stage": "tune:craft"})
    assert (answer.status_code, answer.json()["param"]) == (422, "from_stage")
    assert "tune:cor-rait" in answer.json()["hint"]


def test_a_retry_repeated_with_its_key_makes_one_job(rig: Rig) -> None:
    job_id = rig.submit()
    rig.post(f"/craft/jobs/{job_id}/cancel")
    key = {"Idempotency-Key": "again-1"}
    made = [rig.post(f"/craft/jobs/{job_id}/retry", headers=key).json()["id"] for _ in range(2)]
    assert made[0] == made[1]
    other = rig.post(f"/craft/jobs/{job_id}/retry", headers=key, json={"from_stage": "ingest"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_a_retry_of_a_retry_keeps_its_team(rig: Rig) -> None:
    first = rig.post("/craft/jobs", json=body(), headers={"Craft-Team": "search"}).json()
    assert first["team"] == "search"
    rig.post(f"/craft/jobs/{first['id']}/cancel")
    assert rig.post(f"/craft/jobs/{first['id']}/retry").json()["team"] == "search"


@pytest.mark.parametrize("team", ["", "nobody", "No Team", "x" * 101])
def test_an_unknown_team_is_refused(rig: Rig, team: str) -> None:
    answer = rig.post("/craft/jobs", json=body(), headers={"Craft-Team": team})
    assert (answer.status_code, answer.json()["fault"]) == (404, "user")


def test_the_queue_says_why_a_job_waits_for_its_team(rig: Rig) -> None:
    team = {"Craft-Team": "search"}
    first = rig.post("/craft/jobs", json=body(seed=1), headers=team).json()["id"]
    second = rig.post("/craft/jobs", json=body(seed=2), headers=team).json()["id"]
    rig.claim(first)
    waiting = {entry["job_id"]: entry for entry in rig.get("/craft/queue").json()["data"]}[second]
    assert waiting["reason"] == "team search runs 1 jobs, as many as it may at once"
    assert (waiting["team"], waiting["estimated_start_at"]) == ("search", None)
    assert rig.get(f"/craft/jobs/{second}").json()["status_reason"] == waiting["reason"]


def test_attempts_tell_who_had_a_stage_and_how_it_ended(rig: Rig) -> None:
    job_id = rig.submit()
    rig.fail(rig.claim(job_id), WorkerLost("The process was killed by SIGKILL."))
    found = rig.get(f"/craft/jobs/{job_id}/attempts").json()["data"]
    assert [(item["stage"], item["attempt"], item["outcome"], item["owner"]) for item in found] == [
        ("ingest", 1, "failed", "worker")
    ]
    assert found[0]["error"]["code"] == "worker_lost"
