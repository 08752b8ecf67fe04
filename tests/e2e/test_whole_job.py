"""One POST, one adapter, one report: over HTTP, with real queues, real training and real workers that are killed."""

import json
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from peft import PeftModel
from tests.e2e.conftest import RunningStack
from transformers import AutoModelForCausalLM

from craft.contracts.documents.report import ReportDocument
from craft.core.questions import Task
from craft_client import ApiError, JobFailed, JobHandle

pytestmark = [pytest.mark.model, pytest.mark.timeout(420)]

TRAINING = {"lora_r": 16, "lora_alpha": 32, "epochs": 20, "batch_size": 8, "learning_rate": 5e-3}


def rows(stack: RunningStack) -> list[dict[str, Any]]:
    return [
        {"id": f"fact-{n}", "question": question, "answers": [answer], "category": "even" if n % 4 < 2 else "odd"}
        for n, (question, answer) in enumerate(stack.facts)
    ]


def specification(stack: RunningStack, strategies: list[str], **changes: object) -> dict[str, Any]:
    return {
        "name": "whole job",
        "base_model": {"id": "tiny"},
        "dataset": {"rows": rows(stack)},
        "strategies": strategies,
        "split": {"held_out_fraction": 0.4},
        "probe": {"temperature": 0.7, "max_new_tokens": 8},
        "rehearsal": {"size": 12, "training": {**TRAINING, "epochs": 6, "min_steps": 8}},
        "selection": {"n_van": 12, "n_idk": 12},
        "training": TRAINING,
        "evaluation_settings": {"max_new_tokens": 8, "resamples": 200},
        **changes,
    }


def reused(job: JobHandle) -> dict[str, bool]:
    return {stage.name: stage.reused for stage in job.refresh().stages}


@pytest.fixture(scope="module")
def finished(stack: RunningStack) -> JobHandle:
    """The first job, after its end."""
    job = stack.client.jobs.create(specification(stack, ["craft", "cor-rait"]))
    job.wait()
    return job


def test_the_report_shows_what_was_gained_and_what_it_cost(stack: RunningStack, finished: JobHandle) -> None:
    report = ReportDocument.model_validate_json(stack.client.jobs.report_json(finished.id))
    (held_out,) = report.sets
    shares = {name: metrics.micro for name, metrics in held_out.models.items()}
    assert set(shares) == {"initial_basic", "initial_refuse", "craft", "cor-rait"}
    # The model knows half of the facts: this must show before tuning, and refusals must rise after it.
    assert 0.3 < (shares["initial_basic"].pc.value or 0) < 0.75
    assert (shares["craft"].pr.value or 0) > (shares["initial_refuse"].pr.value or 0) + 0.1
    assert (shares["craft"].ths.value or 0) > (shares["initial_refuse"].ths.value or 0)
    for metrics in shares.values():
        total = sum(share.value or 0 for share in (metrics.pc, metrics.pw, metrics.pr, metrics.pu))
        assert total == pytest.approx(1)


# PEFT reads a property that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_loads_with_peft(stack: RunningStack, finished: JobHandle, tmp_path: Path) -> None:
    archive = finished.download_adapter(tmp_path / "adapter.tar.gz", strategy="craft")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (config,) = tmp_path.rglob("adapter_config.json")
    assert (config.parent / "README.md").read_text().startswith("---")
    base = AutoModelForCausalLM.from_pretrained(stack.state / "models" / "tiny")
    tuned = PeftModel.from_pretrained(base, config.parent)
    assert any("lora_B" in name and bool(weight.abs().sum() > 0) for name, weight in tuned.named_parameters())


def test_the_html_report_needs_no_network(finished: JobHandle, tmp_path: Path) -> None:
    page = finished.download_report(tmp_path / "report.html").read_text()
    assert "default-src" in page
    assert 'src="http' not in page


def test_the_same_job_again_is_all_reuse(stack: RunningStack, finished: JobHandle) -> None:
    again = stack.client.jobs.create(specification(stack, ["craft", "cor-rait"]))
    again.wait()
    assert again.id != finished.id
    assert all(reused(again).values())


def test_another_strategy_repeats_no_probe(stack: RunningStack, finished: JobHandle) -> None:
    other = stack.client.jobs.create(specification(stack, ["van-tuning"]))
    other.wait()
    stages = reused(other)
    assert not any(name.startswith("rehears") for name in stages)
    assert all(stages[name] for name in ("ingest", "probe:initial", "score:initial", "answer:basic", "answer:refuse"))
    assert not stages["tune:van-tuning"]


def test_events_replay_without_gap_and_close(finished: JobHandle) -> None:
    events = list(finished.stream())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "job.succeeded"


def test_a_multiple_choice_job_runs_the_same_way(stack: RunningStack) -> None:
    words = sorted({answer for _, answer in stack.facts})
    choices = [
        {"id": f"c{n}", "question": question, "choices": [answer, words[n % len(words)] + "x"][:: 1 - 2 * (n % 2)]}
        | {"answer": "AB"[n % 2]}
        for n, (question, answer) in enumerate(stack.facts)
    ]
    spec = specification(
        stack,
        ["craft", "cor-rait"],
        task="multiple_choice",
        dataset={"rows": choices},
        # The model never learned letters: the guards would stop the probe and the answers.
        accept=["letters_improbable", "replies_unparsed"],
        # A model that never learned letters is certain of few questions.
        selection={"n_van": 6, "n_idk": 6, "tau": 0.5},
        rehearsal={"size": 8, "threshold": 0.5, "relax_steps": [0.1, 0.0], "training": {**TRAINING, "min_steps": 8}},
    )
    job = stack.client.jobs.create(spec)
    job.wait()
    report = ReportDocument.model_validate_json(stack.client.jobs.report_json(job.id))
    assert set(report.sets[0].models) == {"initial_basic", "initial_refuse", "craft", "cor-rait"}
    assert report.knowledge.mean_letter_mass is not None
    assert {each.code for each in report.findings if each.accepted} == {"letters_improbable", "replies_unparsed"}


def test_a_job_whose_replies_are_cut_stops_after_the_first_shard_of_its_probe(stack: RunningStack) -> None:
    probe = {"temperature": 0.7, "max_new_tokens": 1}
    job = stack.client.jobs.create(specification(stack, ["cor-rait"], probe=probe))
    with pytest.raises(JobFailed, match="replies_unusable") as caught:
        job.wait()
    error = caught.value.job.error
    assert error is not None
    assert (error.stage, error.fault, error.attempt) == ("probe:initial", "user", 1)
    assert error.message.startswith("Stopped after 32 of ")
    assert error.message.count("→") == 3
    assert error.findings[0].code == "replies_cut"


def test_a_killed_child_costs_an_attempt_and_not_the_job(stack: RunningStack) -> None:
    job = stack.client.jobs.create(specification(stack, ["cor-rait"], seed=11))
    victim = None
    for event in job.stream():
        if victim is None and event.type == "stage.started" and event.data["stage"] == "tune:cor-rait":
            victim = _child_of_worker(stack, "craft_training.worker")
            os.kill(victim, signal.SIGKILL)
    assert victim is not None
    view = job.wait()
    (tune,) = [stage for stage in view.stages if stage.name == "tune:cor-rait"]
    assert (tune.status, tune.attempt) == ("succeeded", 2)


def _child_of_worker(stack: RunningStack, module: str) -> int:
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        if module in process.cmdline():
            return int(process.children()[0].pid)
    raise AssertionError(f"no {module} runs")


def test_a_running_job_is_cancelled_within_seconds(stack: RunningStack) -> None:
    slow = {**TRAINING, "epochs": 100}
    job = stack.client.jobs.create(specification(stack, ["cor-rait"], seed=12, training=slow))
    for event in job.stream():
        if event.type == "job.progress" and event.data.get("stage") == "tune:cor-rait":
            stack.client.jobs.cancel(job.id)
            break
    with pytest.raises(JobFailed):
        job.wait()
    assert job.view.status == "cancelled"


def test_a_model_that_knows_nothing_gets_a_hint(stack: RunningStack) -> None:
    nonsense = [{"question": f"Which number has the word {n}x?", "answer": f"none{n}"} for n in range(24)]
    spec = specification(stack, ["cor-rait"], dataset={"rows": nonsense})
    job = stack.client.jobs.create(spec)
    with pytest.raises(JobFailed, match="too_few_known") as caught:
        job.wait()
    error = caught.value.job.error
    assert error is not None
    assert (error.fault, error.stage, bool(error.hint)) == ("user", "tuning_set:cor-rait", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"colour": "red"}, "request_invalid"),
        ({"strategies": ["magic"]}, "request_invalid"),
        ({"dataset": {"rows": []}}, "dataset_invalid"),
        ({"dataset": {"rows": [{"question": "q", "answer": "a"}]}}, "dataset_invalid"),
        ({"dataset": {"rows": [{"id": "a", "question": "q", "answer": "a"}] * 2}}, "dataset_invalid"),
        (
            {"dataset": {"rows": [{"question": "q", "answers": []}, {"question": "r", "answers": [" "]}]}},
            "dataset_invalid",
        ),
        ({"base_model": {"id": "not-here"}}, "model_not_found"),
        ({"base_model": {"id": "../../etc"}}, "request_invalid"),
    ],
)
def test_bad_input_is_a_clear_problem_before_anything_runs(
    stack: RunningStack, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        stack.client.jobs.create({**specification(stack, ["craft"]), **changes})
    assert caught.value.problem.code == code
    assert caught.value.problem.fault == "user"


def test_a_folder_of_pickles_is_refused_and_never_opened(stack: RunningStack) -> None:
    folder = stack.state / "models" / "pickled"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ApiError, match="safetensors") as caught:
        stack.client.jobs.create({**specification(stack, ["craft"]), "base_model": {"id": "pickled"}})
    assert caught.value.problem.code == "model_unsupported"


def test_a_file_with_wrong_rows_is_refused_with_line_and_field(stack: RunningStack, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "a"}\n{"question": "r"}\n{"question": "\xff"}\n')
    with pytest.raises(ApiError) as caught:
        stack.client.datasets.upload(path, task=Task.OPEN_ENDED)
    assert [(error.line, error.field) for error in caught.value.problem.errors] == [(2, "answer"), (3, None)]
