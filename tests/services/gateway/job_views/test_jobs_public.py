import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, body, open_rig

from craft.contracts.stages.kinds import StageKind
from craft.errors import DiskFull, ModelGated


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


def test_a_job_is_accepted_with_its_place_and_every_default(rig: Rig) -> None:
    answer = rig.post("/craft/jobs", json=body(name="sums", labels={"team": "qa"}))
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/craft/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert job["object"] == "craft.job"
    assert job["status"] == "queued"
    assert job["resolved"]["training"]["lora_r"] == 64
    assert job["resolved"]["dataset"]["rows"] is None
    assert job["resolved"]["dataset"]["id"].startswith("dset_")
    assert job["resolved"]["questions"] == 200
    assert job["resolved"]["model"]["id"] == "tiny/model"
    assert job["created_at"].endswith("Z")
    assert job["error"] is None
    assert job["report"] is None
    assert [stage["name"] for stage in job["stages"]][:3] == ["ingest", "probe:initial", "score:initial"]


def test_both_prefixes_are_one_api(rig: Rig) -> None:
    job_id = rig.post("/v1/craft/jobs", json=body()).json()["id"]
    assert rig.get(f"/v1/craft/jobs/{job_id}").json() == rig.get(f"/craft/jobs/{job_id}").json()


def test_a_job_under_way_shows_what_runs(rig: Rig) -> None:
    job_id = rig.submit()
    rig.progress(rig.claim(job_id), 3, 4)
    job = rig.get(f"/craft/jobs/{job_id}").json()
    assert job["status"] == "running"
    assert job["progress"]["stage"] == "ingest"
    assert (job["progress"]["done"], job["progress"]["total"]) == (3, 4)
    assert job["stages"][0]["progress"]["percent"] == 75.0
    assert job["stages"][0]["seconds"] >= 0.0


def test_a_finished_job_has_adapters_a_report_and_no_forecast(rig: Rig) -> None:
    job_id = rig.submit(strategies=["cor-rait", "van-tuning"])
    rig.finish(job_id)
    job = rig.get(f"/craft/jobs/{job_id}").json()
    assert job["status"] == "succeeded"
    assert job["progress"]["percent"] == 100.0
    assert [adapter["strategy"] for adapter in job["adapters"]] == ["cor-rait", "van-tuning"]
    assert job["report"]["html_url"] == f"/craft/jobs/{job_id}/report.html"
    assert job["estimated_finish_at"] is None
    assert job["finished_at"] is not None


def test_a_second_job_on_the_same_data_reuses_what_it_shares(rig: Rig) -> None:
    rig.finish(rig.submit())
    second = rig.submit(strategies=["van-tuning"])
    reused = [stage["name"] for stage in rig.get(f"/craft/jobs/{second}").json()["stages"] if stage["reused"]]
    assert reused == ["ingest", "probe:initial", "score:initial", "answer:basic", "answer:refuse"]


def test_a_failed_job_says_where_and_what_to_do(rig: Rig) -> None:
    job_id = rig.submit()
    rig.fail(rig.claim(job_id), ModelGated("It is gated.", hint="Accept the licence."))
    error = rig.get(f"/craft/jobs/{job_id}").json()["error"]
    assert (error["code"], error["stage"], error["attempt"], error["hint"]) == (
        "model_gated",
        "ingest",
        1,
        "Accept the licence.",
    )


def test_the_entity_tag_holds_while_nothing_changes(rig: Rig) -> None:
    job_id = rig.submit()
    first = rig.get(f"/craft/jobs/{job_id}")
    tag = first.headers["etag"]
    assert tag.startswith('"')
    again = rig.get(f"/craft/jobs/{job_id}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    rig.claim(job_id)
    changed = rig.get(f"/craft/jobs/{job_id}", headers={"If-None-Match": f'W/"old", {tag}'})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_one_key_and_body_is_one_job(rig: Rig) -> None:
    key = {"Idempotency-Key": "6f1c-one"}
    first = rig.post("/craft/jobs", json=body(), headers=key)
    # Members that say the default are the same request.
    second = rig.post("/craft/jobs", json=body(seed=42), headers=key)
    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
    assert len(rig.get("/craft/jobs").json()["data"]) == 1


def test_a_key_with_another_body_is_refused(rig: Rig) -> None:
    key = {"Idempotency-Key": "k"}
    rig.post("/craft/jobs", json=body(), headers=key)
    problem = rig.post("/craft/jobs", json=body(seed=7), headers=key)
    assert (problem.status_code, problem.json()["code"]) == (422, "idempotency_conflict")
    assert problem.json()["hint"]


def test_a_repeated_post_needs_no_datasets_service(rig: Rig) -> None:
    key = {"Idempotency-Key": "k"}
    first = rig.post("/craft/jobs", json=body(), headers=key).json()["id"]
    rig.datasets.down = True
    assert rig.post("/craft/jobs", json=body(), headers=key).json()["id"] == first


def test_concurrent_posts_of_one_key_make_one_job(rig: Rig) -> None:
    async def race(client: httpx.AsyncClient) -> list[httpx.Response]:
        posts = [client.post("/craft/jobs", json=body(), headers={"Idempotency-Key": "k"}) for _ in range(8)]
        return await asyncio.gather(*posts)

    answers = rig.run(race)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(rig.get("/craft/jobs").json()["data"]) == 1


def test_jobs_come_newest_first_in_pages(rig: Rig) -> None:
    made = [rig.submit(seed=seed) for seed in range(5)]
    page = rig.get("/craft/jobs?limit=2").json()
    assert (page["object"], page["has_more"], page["last_id"]) == ("list", True, made[3])
    seen = [job["id"] for job in page["data"]]
    while page["has_more"]:
        page = rig.get(f"/craft/jobs?limit=2&after={page['last_id']}").json()
        seen += [job["id"] for job in page["data"]]
    assert seen == made[::-1]


def test_an_empty_page_has_no_last_id(rig: Rig) -> None:
    assert rig.get("/craft/jobs").json() == {"object": "list", "data": [], "has_more": False, "last_id": None}


def test_jobs_are_filtered_by_status_label_and_age(rig: Rig) -> None:
    red = rig.submit(labels={"team": "red", "a.b/c": 'x"y'})
    blue = rig.submit(labels={"team": "blue"}, seed=1)
    rig.post(f"/craft/jobs/{blue}/cancel")

    def found(query: dict[str, Any]) -> list[str]:
        return [job["id"] for job in rig.get("/craft/jobs", params=query).json()["data"]]

    assert found({"status": "queued"}) == [red]
    assert found({"status": ["queued", "cancelled"]}) == [blue, red]
    assert found({"label.team": "red"}) == [red]
    assert found({"label.team": "red", "label.a.b/c": 'x"y'}) == [red]
    assert found({"label.team": "red", "status": "cancelled"}) == []
    assert found({"label.none": "red"}) == []
    since = rig.get(f"/craft/jobs/{red}").json()["created_at"]
    assert found({"created_after": since})[:1] == [blue]
    assert found({"created_after": "2100-01-01T00:00:00Z"}) == []
    assert found({"created_after": "2025-01-31T09:30:00.5+05:30"}) == [blue, red]


WRONG_FILTERS = [
    "limit=0",
    "limit=501",
    "after=nonsense",
    "status=done",
    "created_after=yesterday",
    "created_after=2025-01-01T00:00:00",
    "created_after=2025-01-01",
    "created_after=0.5",
    "created_after=1735689600",
    "created_after=0001-01-01T00:00:00%2B14:00",
    "created_after=9999-12-31T23:59:59-14:00",
    "created_after=0000-01-01T00:00:00Z",
    "created_after=2016-12-31T23:59:60Z",
    "created_after=2016-12-31T23:59:59%2B99:00",
    "label.%22=x",
    "label.=x",
    "label.team=%00",
]


def test_a_wrong_filter_is_a_problem(rig: Rig) -> None:
    for query in WRONG_FILTERS:
        problem = rig.get(f"/craft/jobs?{query}")
        assert (problem.status_code, problem.json()["code"]) == (422, "request_invalid"), query
        assert problem.headers["content-type"] == "application/problem+json"


def test_queued_jobs_know_their_place(rig: Rig) -> None:
    low, high = rig.submit(priority=10), rig.submit(priority=90, seed=1)
    running = rig.submit(seed=2, priority=100)
    rig.claim(running)
    queue = rig.get("/craft/queue").json()
    assert (queue["running"], queue["waiting"]) == (1, 2)
    assert [(entry["job_id"], entry["position"]) for entry in queue["data"]] == [(running, 0), (high, 0), (low, 1)]
    assert rig.get(f"/craft/jobs/{low}").json()["queue"]["position"] == 1


def test_cancelling_a_queued_job_ends_it_and_a_second_time_changes_nothing(rig: Rig) -> None:
    job_id = rig.submit()
    first = rig.post(f"/craft/jobs/{job_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    again = rig.post(f"/craft/jobs/{job_id}/cancel").json()
    assert again == first.json()


def test_cancelling_a_running_job_waits_for_its_worker(rig: Rig) -> None:
    job_id = rig.submit()
    rig.claim(job_id)
    assert rig.post(f"/craft/jobs/{job_id}/cancel").json()["status"] == "cancelling"


NO_JOBS = [UNKNOWN_JOB, "x", "cjob_", UNKNOWN_JOB.upper(), "%00", f"{UNKNOWN_JOB}%0a", "a" * 5000]


def test_ids_that_are_none_are_not_found(rig: Rig) -> None:
    for rest in (
        "",
        "/stages",
        "/events",
        "/logs",
        "/artifacts",
        "/report",
        "/report.json",
        "/report.html",
        "/adapter",
    ):
        for job_id in NO_JOBS:
            problem = rig.get(f"/craft/jobs/{job_id}{rest}")
            assert (problem.status_code, problem.json()["code"]) == (404, "not_found"), f"{job_id}{rest}"


def test_cancelling_an_unknown_job_is_not_found(rig: Rig) -> None:
    assert rig.post(f"/craft/jobs/{UNKNOWN_JOB}/cancel").status_code == 404
    assert rig.post("/craft/jobs/x/cancel").status_code == 404


def test_waiting_ends_when_the_job_changes(rig: Rig) -> None:
    job_id = rig.submit()
    tag = rig.get(f"/craft/jobs/{job_id}").headers["etag"]

    async def wait(client: httpx.AsyncClient) -> httpx.Response:
        async with rig.feed.running():
            waiting = asyncio.create_task(client.get(f"/craft/jobs/{job_id}?wait=30", headers={"If-None-Match": tag}))
            while not rig.feed.watched:
                await asyncio.sleep(0)
            await asyncio.to_thread(rig.claim, job_id)
            return await waiting

    answer = rig.run(wait)
    assert (answer.status_code, answer.json()["status"]) == (200, "running")


def test_waiting_without_a_tag_ends_with_the_job(rig: Rig) -> None:
    job_id = rig.submit()

    async def wait(client: httpx.AsyncClient) -> httpx.Response:
        async with rig.feed.running():
            waiting = asyncio.create_task(client.get(f"/craft/jobs/{job_id}?wait=30"))
            await asyncio.to_thread(rig.finish, job_id)
            return await waiting

    assert rig.run(wait).json()["status"] == "succeeded"


def test_waiting_is_over_at_once_where_there_is_nothing_to_wait_for(rig: Rig) -> None:
    job_id = rig.submit()
    rig.post(f"/craft/jobs/{job_id}/cancel")
    ended = rig.get(f"/craft/jobs/{job_id}?wait=60")
    assert ended.json()["status"] == "cancelled"
    same = rig.get(f"/craft/jobs/{job_id}?wait=60", headers={"If-None-Match": ended.headers["etag"]})
    assert same.status_code == 304


def test_waiting_gives_up_when_time_is_up(rig: Rig) -> None:
    job_id = rig.submit()
    tag = rig.get(f"/craft/jobs/{job_id}").headers["etag"]
    answer = rig.get(f"/craft/jobs/{job_id}?wait=0.05", headers={"If-None-Match": tag})
    assert answer.status_code == 304


def test_logs_are_paged_and_named_by_stage(rig: Rig) -> None:
    job_id = rig.submit()
    stage = rig.claim(job_id)
    rig.progress(stage, 1, 2, "one", "two", "three")
    page = rig.get(f"/craft/jobs/{job_id}/logs?stage=ingest&limit=2").json()
    assert [(line["line"], line["stage"], line["attempt"]) for line in page["data"]] == [
        ("one", "ingest", 1),
        ("two", "ingest", 1),
    ]
    assert page["has_more"]
    rest = rig.get(f"/craft/jobs/{job_id}/logs?after={page['last_id']}").json()
    assert [line["line"] for line in rest["data"]] == ["three"]
    assert rig.get(f"/craft/jobs/{job_id}/logs?stage=nope").status_code == 404


def test_stages_are_listed_in_planned_order(rig: Rig) -> None:
    job_id = rig.submit()
    listed = rig.get(f"/craft/jobs/{job_id}/stages").json()
    assert listed["data"] == rig.get(f"/craft/jobs/{job_id}").json()["stages"]
    assert listed["data"][-1]["kind"] == StageKind.REPORT


def test_a_retried_stage_keeps_its_last_error_in_sight(rig: Rig) -> None:
    job_id = rig.submit()
    rig.fail(rig.claim(job_id), DiskFull("No space left."))
    stage = rig.get(f"/craft/jobs/{job_id}/stages").json()["data"][0]
    assert (stage["status"], stage["error"]["code"]) == ("ready", "disk_full")


def test_a_database_that_is_away_is_unavailable_and_no_stack_trace(rig: Rig, tmp_path: Path) -> None:
    rig.database.close()
    for file in tmp_path.glob("craft.db*"):
        file.unlink()
    (tmp_path / "craft.db").mkdir()
    problem = rig.get("/craft/jobs")
    assert (problem.status_code, problem.json()["code"], problem.json()["retryable"]) == (503, "unavailable", True)
    assert int(problem.headers["retry-after"]) > 0
