"""Pins, expiry and garbage collection on demand over the API."""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, event, update
from sqlmodel import col
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, open_rig

from craft.infra.settings.inference import VllmSettings
from craft_gateway.retention.store import folder_of
from craft_gateway.store.tables import Artifact, Job


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


def age(rig: Rig, job_id: str, *, days: float) -> None:
    """Date the job and all artifacts so many days back."""
    with rig.database.write() as session:
        moment = rig.database.now(session) - timedelta(days=days)
        session.connection().execute(update(Job).where(col(Job.id) == job_id).values(finished_at=moment))
        session.connection().exec_driver_sql(
            "UPDATE artifact SET created_at = ?", (moment.replace(tzinfo=None).isoformat(sep=" "),)
        )


def days_left(job: dict[str, str], expires_at: str) -> float:
    return (datetime.fromisoformat(expires_at) - datetime.fromisoformat(job["finished_at"])).total_seconds() / 86400


def test_a_finished_job_tells_when_its_results_expire(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    job = rig.get(f"/craft/jobs/{job_id}").json()
    assert days_left(job, job["report"]["expires_at"]) == 365
    assert days_left(job, job["adapters"][0]["expires_at"]) == 365
    artifacts = rig.get(f"/craft/jobs/{job_id}/artifacts").json()["data"]
    shown = {item["stage"]: (item["retention_class"], days_left(job, item["expires_at"])) for item in artifacts}
    assert shown["probe:initial"] == ("intermediate", 30)
    assert shown["tune:cor-rait"] == ("model", 30)
    assert shown["evaluate:cor-rait"] == ("result", 365)


def test_expiry_costs_one_query_for_a_page_of_ended_jobs_and_none_for_others(rig: Rig) -> None:
    statements: list[str] = []
    event.listen(rig.database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))

    def queries(path: str) -> int:
        statements.clear()
        assert rig.get(path).status_code == 200
        return sum("FROM deployment" in statement for statement in statements)

    ids = [rig.submit(seed=seed) for seed in range(3)]
    assert [queries("/craft/jobs"), queries(f"/craft/jobs/{ids[0]}"), queries("/craft/queue")] == [0, 0, 0]
    rig.finish(ids[0])
    rig.finish(ids[1])
    assert [queries("/craft/jobs"), queries(f"/craft/jobs/{ids[0]}"), queries(f"/craft/jobs/{ids[2]}")] == [1, 1, 0]


def test_nothing_of_an_unfinished_job_expires(rig: Rig) -> None:
    job_id = rig.submit()
    rig.complete(rig.claim(job_id))
    (artifact,) = rig.get(f"/craft/jobs/{job_id}/artifacts").json()["data"]
    assert (artifact["retention_class"], artifact["expires_at"]) == ("intermediate", None)


def test_a_job_can_be_pinned_at_any_time_and_twice_is_as_once(rig: Rig) -> None:
    job_id = rig.submit()
    path = f"/craft/jobs/{job_id}/pin"
    assert rig.get(f"/craft/jobs/{job_id}").json()["pinned"] is False
    answers = [rig.request("PUT", path) for _ in range(2)]
    assert [(answer.status_code, answer.json()["pinned"]) for answer in answers] == [(200, True)] * 2
    rig.finish(job_id)
    job = rig.get(f"/craft/jobs/{job_id}").json()
    assert (job["status"], job["pinned"], job["report"]["expires_at"]) == ("succeeded", True, None)
    answers = [rig.request("DELETE", path) for _ in range(2)]
    assert [(answer.status_code, answer.json()["pinned"]) for answer in answers] == [(200, False)] * 2
    assert rig.get(f"/craft/jobs/{job_id}").json()["report"]["expires_at"] is not None
    assert job["links"]["pin"] == path


def test_an_unknown_job_cannot_be_pinned(rig: Rig) -> None:
    for method in ("PUT", "DELETE"):
        for name in (UNKNOWN_JOB, "..", "cjob_x"):
            assert rig.request(method, f"/craft/jobs/{name}/pin").status_code == 404


def test_the_sweep_on_demand_lists_first_and_removes_when_told(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    age(rig, job_id, days=31)
    report = rig.reader.output(job_id, "report")
    would = rig.post("/craft/gc").json()
    assert (would["object"], would["dry_run"], would["has_more"]) == ("list", True, False)
    assert would["total"] == len(would["data"]) > 5
    assert would["total_bytes"] == sum(item["bytes"] for item in would["data"]) > 0
    assert {item["kind"] for item in would["data"]}.isdisjoint({"report", "package", "evaluate"})
    assert all(item["expires_at"].endswith("Z") and item["key"] for item in would["data"])
    gone = rig.post("/craft/gc", params={"dry_run": "false"}).json()
    assert (gone["dry_run"], gone["data"]) == (False, would["data"])
    assert rig.post("/craft/gc").json()["data"] == []
    assert rig.get(f"/craft/jobs/{job_id}/report").status_code == 200
    assert (rig.artifacts / "artifacts" / folder_of(report).name).is_dir()
    assert [item["stage"] for item in rig.get(f"/craft/jobs/{job_id}/artifacts").json()["data"]] == [
        "evaluate:cor-rait",
        "package:cor-rait",
        "report",
    ]


def test_an_adapter_that_a_sweep_takes_meanwhile_is_not_deployed(tmp_path: Path) -> None:
    with open_rig(tmp_path, vllm=VllmSettings()) as rig:
        job_id = rig.submit()
        rig.finish(job_id)
        with rig.database.write() as session:
            # The state in the middle of a collection: the row is deleted, the folder still exists.
            session.connection().execute(delete(Artifact))
        answer = rig.post(f"/craft/jobs/{job_id}/deploy", json={})
        assert (answer.status_code, answer.json()["detail"]) == (404, "The adapter has expired.")
        assert list(rig.adapters.iterdir()) == []


def test_what_expired_is_computed_again_by_the_next_job(rig: Rig) -> None:
    first = rig.submit()
    rig.finish(first)
    age(rig, first, days=400)
    assert rig.post("/craft/gc?dry_run=false").json()["total"] > 0
    assert rig.get(f"/craft/jobs/{first}/report").status_code == 404
    second = rig.submit()
    rig.finish(second)
    job = rig.get(f"/craft/jobs/{second}").json()
    assert not any(stage["reused"] for stage in job["stages"])
    # The same bytes again: the first job's report is back.
    assert rig.get(f"/craft/jobs/{first}/report").status_code == 200


def test_a_sweep_is_bounded_by_its_limit(rig: Rig) -> None:
    for name in ("a", "b", "c"):
        folder = rig.store.checkpoint(name * 64)
        os.utime(folder, (0, 0))
    answers = [rig.post(f"/craft/gc?dry_run=false&limit={limit}").json() for limit in (2, 2)]
    assert [(answer["total"], answer["has_more"]) for answer in answers] == [(2, True), (1, False)]
    assert answers[0]["data"][0]["retention_class"] == "checkpoint"
    assert rig.post("/craft/gc?limit=0").status_code == 422
