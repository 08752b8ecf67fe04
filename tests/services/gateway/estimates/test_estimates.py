"""A job's estimate comes from the installation's history, is stored, and is compared with the job's actual time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import select
from tests.services.gateway.rigs.public_rig import MODEL, Rig, body, model_folder, open_rig

from craft.contracts.documents.estimate import CheckOutcome
from craft.contracts.public.accounts import DEFAULT_TEAM, TeamSettings
from craft_gateway.estimates.estimator import Estimator, SizedJob
from craft_gateway.estimates.memory import memory_check
from craft_gateway.plan.stages import plan
from craft_gateway.store.tables import Attempt

PARAMETERS = 400 * 8 + 4 * 64 + 3 * 8 * 64 + 3 * 8


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as opened:
        yield opened


def shaped(rig: Rig, name: str, **changes: Any) -> None:
    model_folder(rig.models, name, hidden_size=8, num_attention_heads=1, num_key_value_heads=1, **changes)


def validated(rig: Rig, **changes: Any) -> dict[str, Any]:
    answer = rig.post("/craft/jobs/validate", json=body(**changes))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finished(rig: Rig, **changes: Any) -> str:
    job = rig.submit(**changes)
    rig.finish(job)
    return job


def set_seconds(rig: Rig, job: str, seconds_for_each_unit: float) -> None:
    """Set the seconds of the job's attempts."""
    with rig.database.write() as session:
        for attempt in session.exec(select(Attempt).where(Attempt.job_id == job)):
            assert attempt.work is not None
            attempt.seconds = seconds_for_each_unit * attempt.work["units"]
            session.add(attempt)


def checks(validation: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in validation["checks"]}


def test_a_new_installation_knows_no_seconds_and_says_so(rig: Rig) -> None:
    estimate = validated(rig)["estimate"]
    assert estimate["seconds"] == {"seconds": None, "low": None, "high": None, "based_on": 0, "basis": None}
    assert estimate["expected_generated_tokens"] is None
    assert estimate["queue"] == {"seconds": None, "ahead": 0}
    assert estimate["generated_tokens"] > 0  # the bound is known without any history


def test_seconds_come_from_what_stages_took_here_for_each_unit(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    estimate = validated(rig, seed=4)["estimate"]
    probe = next(stage for stage in estimate["stage_estimates"] if stage["stage"] == "probe:initial")
    assert probe["units"] == 160 * 10
    assert probe["seconds"]["seconds"] == pytest.approx(800.0)
    assert (probe["seconds"]["based_on"], probe["seconds"]["basis"]) == (3, "same")
    assert probe["seconds"]["low"] < 800 < probe["seconds"]["high"]
    assert probe["generated_tokens"] == 5  # what each of the rig's stages generates
    assert estimate["seconds"]["seconds"] == pytest.approx(
        sum(stage["seconds"]["seconds"] for stage in estimate["stage_estimates"])
    )


def test_of_many_jobs_at_once_one_asks_the_database(rig: Rig) -> None:
    moment = [0.0]
    estimator = Estimator(rig.database, clock=lambda: moment[0])
    sized = SizedJob(
        job=rig.reader.resolved(rig.submit()),
        stages=(),
        reused={},
        questions=200,
        evaluation={},
        team=DEFAULT_TEAM,
        model_folder=None,
    )
    sized = replace(sized, stages=plan(sized.job))
    first = estimator.estimate(sized)
    assert first.seconds is not None
    assert first.seconds.based_on == 0
    set_seconds(rig, finished(rig, seed=2), 0.5)
    queries: list[object] = []
    event.listen(rig.database.engine, "before_cursor_execute", lambda *call: queries.append(call))
    assert estimator.estimate(sized) == first
    assert queries == []
    moment[0] = 60.0
    later = estimator.estimate(sized)
    assert later.seconds is not None
    assert later.seconds.based_on > 0


def test_shapes_that_could_not_be_read_once_are_read_again(rig: Rig) -> None:
    shaped(rig, "tiny/one")
    weights = next(rig.models.rglob("one/model.safetensors"))
    job = rig.reader.resolved(rig.submit(base_model={"id": "tiny/one"}))
    sized = SizedJob(job, plan(job), {}, 200, {}, DEFAULT_TEAM, weights.parent)
    estimator, elsewhere = Estimator(rig.database), weights.with_name("elsewhere")
    config = weights.with_name("config.json")
    config.rename(elsewhere)
    assert estimator.estimate(sized).memory is None
    elsewhere.rename(config)
    assert estimator.estimate(sized).memory is not None


def test_stages_that_are_reused_cost_nothing(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    again = validated(rig, seed=3)["estimate"]
    assert again["seconds"]["seconds"] == 0
    assert again["reused_stages"] == again["stages"]


def test_another_models_stages_count_scaled_by_its_size(rig: Rig) -> None:
    shaped(rig, "tiny/one")
    shaped(rig, "tiny/same-size", rope_theta=5)
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed, base_model={"id": "tiny/one"}), 0.5)
    estimate = validated(rig, seed=1, base_model={"id": "tiny/same-size"})["estimate"]
    probe = next(stage for stage in estimate["stage_estimates"] if stage["stage"] == "probe:initial")
    assert (probe["seconds"]["basis"], probe["seconds"]["seconds"]) == ("scaled", pytest.approx(800.0))


def test_a_job_keeps_its_estimate_as_it_was_made_and_is_held_against_it(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    job = rig.submit(seed=4)
    before = rig.get(f"/craft/jobs/{job}").json()
    assert before["estimate_outcome"] is None
    rig.finish(job)
    set_seconds(rig, job, 999.0)
    after = rig.get(f"/craft/jobs/{job}").json()
    assert after["estimate"] == before["estimate"]
    outcome = after["estimate_outcome"]
    assert outcome["compared"] == len(after["stages"]) - sum(stage["reused"] for stage in after["stages"])
    assert outcome["estimated_seconds"] == pytest.approx(before["estimate"]["seconds"]["seconds"])
    assert outcome["seconds"] == pytest.approx(sum(stage["seconds"] for stage in after["stages"]), abs=0.01)
    assert {stage["inside"] for stage in outcome["stages"] if not stage["reused"]} == {False}  # done within moments


def test_the_report_shows_the_estimate_against_what_happened(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    job = finished(rig, seed=4)
    outcome = rig.get(f"/craft/jobs/{job}").json()["estimate_outcome"]
    assert rig.get(f"/craft/jobs/{job}/report.json").json()["estimate"] == outcome


def test_a_retry_is_estimated_too(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    job = finished(rig, seed=4)
    again = rig.post(f"/craft/jobs/{job}/retry", json={"from_stage": "tune:cor-rait"}).json()
    stages = {stage["stage"]: stage for stage in again["estimate"]["stage_estimates"]}
    assert not stages["tune:cor-rait"]["reused"]
    assert stages["probe:initial"]["reused"]
    assert stages["tune:cor-rait"]["seconds"]["based_on"] == 4


def test_memory_is_computed_from_the_models_shapes(rig: Rig) -> None:
    shaped(rig, "tiny/shaped")
    memory = validated(rig, base_model={"id": "tiny/shaped"}, training={"lora_r": 4})["estimate"]["memory"]
    assert memory["parameters"] == PARAMETERS
    assert memory["weights_bytes"] == 2 * PARAMETERS
    assert memory["adapter_bytes"] == 4 * 4 * (4 * 16 + 3 * 72)
    assert memory["device_bytes"] == max(memory["training_bytes"], memory["inference_bytes"])


def test_memory_is_compared_with_what_past_stages_with_the_model_took(rig: Rig) -> None:
    shaped(rig, "tiny/shaped")
    shaped(rig, "tiny/other", note="other")
    told = "No stage with this model has run here yet."
    for name, measured in (("tiny/shaped", None), ("tiny/other", None)):
        validation = validated(rig, base_model={"id": name})
        assert validation["estimate"]["memory"]["measured_bytes"] is measured
        assert told in next(check["message"] for check in validation["checks"] if check["name"] == "memory")
    finished(rig, base_model={"id": "tiny/shaped"})
    validation = validated(rig, base_model={"id": "tiny/shaped"}, seed=2)
    assert validation["estimate"]["memory"]["measured_bytes"] == 3 * 2**20
    message = next(check["message"] for check in validation["checks"] if check["name"] == "memory")
    assert "Past stages with this model took at most 0.0 GiB" in message
    assert "rows of at most" in message
    assert validated(rig, base_model={"id": "tiny/other"})["estimate"]["memory"]["measured_bytes"] is None


def test_a_model_that_was_removed_has_no_invented_memory(rig: Rig) -> None:
    job = rig.reader.resolved(rig.submit())
    estimate = Estimator(rig.database).estimate(SizedJob(job, plan(job), {}, 200, {}, DEFAULT_TEAM, None))
    assert estimate.memory is None
    assert memory_check(estimate.memory).outcome is CheckOutcome.UNKNOWN


def test_quotas_say_whether_it_runs_now_later_or_never(rig: Rig) -> None:
    assert checks(validated(rig))["running_jobs"] == "passed"
    rig.teams.put(DEFAULT_TEAM, TeamSettings(max_running_jobs=1, gpu_seconds_per_day=0.0))
    running = rig.submit()
    rig.claim(running)
    outcomes = checks(validated(rig, seed=9))
    assert (outcomes["running_jobs"], outcomes["gpu_seconds"]) == ("waits", "never")


def test_a_job_that_needs_more_than_is_left_of_the_day_waits_in_the_middle(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.01)
    rig.teams.put(DEFAULT_TEAM, TeamSettings(gpu_seconds_per_day=75.0))
    assert checks(validated(rig, seed=4))["gpu_seconds"] == "waits"
    rig.teams.put(DEFAULT_TEAM, TeamSettings(gpu_seconds_per_day=1e6))
    assert checks(validated(rig, seed=4))["gpu_seconds"] == "passed"


def test_the_wait_counts_what_is_served_before(rig: Rig) -> None:
    for seed in (1, 2, 3):
        set_seconds(rig, finished(rig, seed=seed), 0.5)
    before = validated(rig, seed=4)["estimate"]["queue"]
    assert (before["ahead"], before["seconds"]) == (0, 0.0)
    rig.submit(seed=5)
    rig.submit(seed=6)
    behind = validated(rig, seed=4)["estimate"]["queue"]
    assert behind["ahead"] == 2
    assert behind["seconds"] > 0
    assert validated(rig, seed=4, priority=90)["estimate"]["queue"]["ahead"] == 0


def test_a_folder_without_a_tokenizer_is_refused_before_anything_runs(rig: Rig) -> None:
    (rig.models / MODEL / "tokenizer.json").unlink()
    answer = rig.post("/craft/jobs/validate", json=body())
    assert (answer.status_code, answer.json()["code"]) == (422, "model_unsupported")
    assert "tokenizer" in answer.json()["detail"]


def test_a_job_without_an_estimate_shows_what_can_be_counted(rig: Rig) -> None:
    job = finished(rig)
    with rig.database.write() as session:
        row = rig.reader.row(job)
        row.estimate = None
        row.updated_at += timedelta(seconds=1)
        session.add(row)
    shown = rig.get(f"/craft/jobs/{job}").json()
    assert (shown["estimate"]["stage_estimates"], shown["estimate"]["prompts"] > 0) == ([], True)
    assert shown["estimate_outcome"] is None
