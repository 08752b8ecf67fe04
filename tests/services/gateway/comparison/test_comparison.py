"""A comparison of jobs shows differing parameters, and differences with intervals where the questions are the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.storage.damage import flip_a_byte
from tests.services.gateway.rigs.evaluated_artifacts import QUESTIONS, outcomes
from tests.services.gateway.rigs.public_rig import MODEL, UNKNOWN_JOB, Rig, model_folder, open_rig

from craft.contracts.stages.rows import EVALUATION_FILE
from craft.core.metrics import paired_difference
from craft_gateway.store.tables import Artifact


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as opened:
        yield opened


def finished(rig: Rig, **changes: Any) -> str:
    job = rig.submit(**changes)
    rig.finish(job)
    return job


def compared(rig: Rig, *jobs: str, status: int = 200) -> dict[str, Any]:
    answer = rig.get("/craft/jobs/compare", params={"ids": ",".join(jobs)})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_only_what_differs_is_shown_in_the_order_of_the_call(rig: Rig) -> None:
    first = finished(rig, training={"lora_r": 8})
    second = finished(rig, training={"lora_r": 16, "epochs": 1}, name="another", labels={"a": "b"}, priority=9)
    comparison = compared(rig, first, second)
    assert [job["id"] for job in comparison["jobs"]] == [first, second]
    assert comparison["parameters"] == [
        {"path": "training.epochs", "values": ["3", "1"]},
        {"path": "training.lora_r", "values": ["8", "16"]},
    ]


def test_differences_on_the_same_questions_are_the_cores_with_intervals(rig: Rig) -> None:
    first, second = finished(rig, strategies=["cor-rait"]), finished(rig, strategies=["van-tuning"])
    (held_out,) = compared(rig, first, second)["sets"]
    assert (held_out["name"], held_out["same"], held_out["reason"]) == ("held_out", True, None)
    (pair,) = held_out["differences"]
    assert (pair["job"], pair["against_job"], pair["questions"]) == (second, first, QUESTIONS)
    later, earlier, baseline = (outcomes(model, 42) for model in ("van-tuning", "cor-rait", "initial_basic"))
    expected = paired_difference(later, earlier, baseline, metric="ths", seed=42)
    ths = pair["differences"]["ths"]
    assert expected.interval is not None
    assert (ths["value"], ths["low"]) == (expected.value, expected.interval.low)
    assert ths["low"] <= ths["value"] <= ths["high"]


def test_every_strategy_of_a_job_meets_every_one_of_the_other_and_none_of_its_own(rig: Rig) -> None:
    first = finished(rig, strategies=["cor-rait", "van-tuning"])
    second = finished(rig, strategies=["cor-rait", "van-tuning"], training={"epochs": 1})
    (held_out,) = compared(rig, first, second)["sets"]
    pairs = {(pair["job"], pair["strategy"], pair["against_strategy"]) for pair in held_out["differences"]}
    names = ("cor-rait", "van-tuning")
    assert pairs == {(second, mine, other) for mine in names for other in names}


def test_other_questions_have_metrics_but_no_interval_of_a_difference_and_the_reason_is_told(rig: Rig) -> None:
    first, second = finished(rig), finished(rig, seed=7)
    comparison = compared(rig, first, second)
    (held_out,) = comparison["sets"]
    assert (held_out["same"], held_out["differences"]) == (False, [])
    assert "not the same" in held_out["reason"]
    assert all(job["strategies"][0]["metrics"]["held_out"]["ths"]["value"] is not None for job in comparison["jobs"])


def test_of_three_jobs_those_with_the_same_questions_are_compared(rig: Rig) -> None:
    first, other, third = finished(rig), finished(rig, seed=7), finished(rig, training={"epochs": 1})
    (held_out,) = compared(rig, first, other, third)["sets"]
    assert not held_out["same"]
    assert [(pair["job"], pair["against_job"]) for pair in held_out["differences"]] == [(third, first)]


def test_a_job_that_goes_on_says_so_instead_of_metrics(rig: Rig) -> None:
    first, running = finished(rig), rig.submit(training={"epochs": 1})
    comparison = compared(rig, first, running)
    assert "is not done" in comparison["jobs"][1]["strategies"][0]["reason"]
    assert "nothing" in comparison["sets"][0]["reason"]


def test_what_has_expired_is_told(rig: Rig) -> None:
    first, second = finished(rig), finished(rig, training={"epochs": 1})
    key = next(
        item["key"] for item in rig.get(f"/craft/jobs/{first}/artifacts").json()["data"] if item["kind"] == "evaluate"
    )
    (folder,) = (rig.artifacts / "artifacts").glob(f"{key}*")
    folder.rename(folder.with_name("gone"))
    with rig.database.write() as session:
        session.delete(session.get_one(Artifact, key))
    comparison = compared(rig, first, second)
    assert "expired" in comparison["jobs"][0]["strategies"][0]["reason"]
    assert comparison["sets"][0]["differences"] == []


def test_what_is_damaged_is_told_and_not_compared(rig: Rig) -> None:
    first, second = finished(rig), finished(rig, training={"epochs": 1})
    ref = rig.reader.output(first, "evaluate:cor-rait")
    flip_a_byte(rig.store.open(ref), EVALUATION_FILE)
    for _ in range(2):
        comparison = compared(rig, first, second)
        assert "damaged: retry the job from" in comparison["jobs"][0]["strategies"][0]["reason"]
        assert comparison["sets"][0]["differences"] == []


def test_with_another_base_models_scale_ths_is_not_subtracted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finished(rig)
    model_folder(rig.models, "tiny/other", hidden_size=8)
    plain = outcomes
    monkeypatch.setattr(
        "tests.services.gateway.rigs.evaluated_artifacts.outcomes",
        lambda model, seed: plain(model, seed, baseline_seed=1),
    )
    second = finished(rig, base_model={"id": "tiny/other"})
    (pair,) = compared(rig, first, second)["sets"][0]["differences"]
    assert pair["differences"]["ths"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "it is measured on each base model's own scale, and these differ",
    }
    assert pair["differences"]["pc"]["low"] is not None
    assert MODEL in str(compared(rig, first, second)["parameters"])


@pytest.mark.parametrize("count", [0, 1, 11])
def test_too_few_and_too_many_are_refused(rig: Rig, count: int) -> None:
    ids = [f"{UNKNOWN_JOB[:-2]}{n:02}" for n in range(count)]
    assert compared(rig, *ids, status=422)["param"] == "ids"


def test_the_same_job_twice_is_refused_and_an_unknown_one_not_found(rig: Rig) -> None:
    job = finished(rig)
    assert "twice" in compared(rig, job, job, status=422)["detail"]
    for unknown in (UNKNOWN_JOB, "../../etc/passwd", "cjob_ü"):
        assert compared(rig, job, unknown, status=404)["code"] == "not_found"
