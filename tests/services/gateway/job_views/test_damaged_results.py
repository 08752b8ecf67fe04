"""A stored result that is damaged is never sent: the answer says how to make it again, and doing so repairs it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.infra.storage.damage import BREAKS, Break, flip_a_byte
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.contracts.stages.rows import ADAPTER_ARCHIVE, REPORT_JSON
from craft_gateway.store.tables import Artifact

EVERY_BREAK = pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS.keys())
ADAPTER, REPORT = "package:cor-rait", "report"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


def finished(rig: Rig) -> str:
    job_id = rig.submit()
    rig.finish(job_id)
    return job_id


def folder(rig: Rig, job_id: str, stage: str) -> Path:
    return rig.store.open(rig.reader.output(job_id, stage))


def assert_says_how_to_make_it_again(answer: httpx.Response, job_id: str, stage: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (410, "artifact_damaged")
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"`POST /craft/jobs/{job_id}/retry`" in problem["hint"]
    assert f'{{"from_stage": "{stage}"}}' in problem["hint"]


@EVERY_BREAK
def test_a_damaged_adapter_is_not_sent_in_whole_or_in_part(rig: Rig, damage: Break) -> None:
    job_id = finished(rig)
    damage(folder(rig, job_id, ADAPTER), ADAPTER_ARCHIVE)
    for headers in ({}, {"Range": "bytes=1-"}, {}):
        answer = rig.get(f"/craft/jobs/{job_id}/adapter", headers=headers)
        assert_says_how_to_make_it_again(answer, job_id, ADAPTER)


@EVERY_BREAK
def test_a_damaged_report_is_not_sent(rig: Rig, damage: Break) -> None:
    job_id = finished(rig)
    damage(folder(rig, job_id, REPORT), REPORT_JSON)
    for path in ("report", "report.json", "report.html"):
        assert_says_how_to_make_it_again(rig.get(f"/craft/jobs/{job_id}/{path}"), job_id, REPORT)


def test_doing_what_the_answer_says_makes_the_adapter_again_for_both_jobs(rig: Rig) -> None:
    job_id = finished(rig)
    good = rig.get(f"/craft/jobs/{job_id}/adapter")
    flip_a_byte(folder(rig, job_id, ADAPTER), ADAPTER_ARCHIVE)
    assert rig.get(f"/craft/jobs/{job_id}/adapter").status_code == 410
    retried = rig.post(f"/craft/jobs/{job_id}/retry", json={"from_stage": ADAPTER})
    assert retried.status_code == 202
    rig.finish(retried.json()["id"])
    for each in (job_id, retried.json()["id"]):
        answer = rig.get(f"/craft/jobs/{each}/adapter")
        assert (answer.status_code, answer.content) == (200, good.content)
        assert answer.headers["etag"] == good.headers["etag"]


def test_a_retry_before_anybody_noticed_the_damage_uses_no_damaged_input(rig: Rig) -> None:
    job_id = finished(rig)
    flip_a_byte(folder(rig, job_id, "tune:cor-rait"), "rows.jsonl")
    retried = rig.post(f"/craft/jobs/{job_id}/retry", json={"from_stage": ADAPTER}).json()["id"]
    stages = {stage["name"]: stage for stage in rig.get(f"/craft/jobs/{retried}").json()["stages"]}
    assert not stages["tune:cor-rait"]["reused"]
    assert stages["ingest"]["reused"]
    rig.finish(retried)
    assert rig.get(f"/craft/jobs/{retried}").json()["status"] == "succeeded"


@EVERY_BREAK
def test_a_new_job_reuses_all_but_what_is_damaged(rig: Rig, damage: Break) -> None:
    job_id = finished(rig)
    damage(folder(rig, job_id, "answer:basic"), "rows.jsonl")
    again = rig.submit()
    stages = {stage["name"]: stage["reused"] for stage in rig.get(f"/craft/jobs/{again}").json()["stages"]}
    assert not stages["answer:basic"]
    assert stages["ingest"]
    assert stages["tune:cor-rait"]
    rig.finish(again)
    assert rig.get(f"/craft/jobs/{again}").json()["status"] == "succeeded"


def test_a_result_that_expired_is_not_found(rig: Rig) -> None:
    job_id = finished(rig)
    ref = rig.reader.output(job_id, ADAPTER)
    with rig.database.write() as session:
        session.delete(session.get_one(Artifact, ref.key))
    flip_a_byte(rig.store.open(ref), ADAPTER_ARCHIVE)
    assert not rig.store.holds(ref)
    answer = rig.get(f"/craft/jobs/{job_id}/adapter")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
