"""A job is looked at with its model before anything runs: findings stop it, or stay with it where it accepts them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.models.inspection.folders import CHAT_TEMPLATE, OWN_TOKEN, model
from tests.services.gateway.rigs.dataset_rig import row_checking_rig
from tests.services.gateway.rigs.public_rig import MODEL, Rig, body, rows

from craft.contracts.findings import Finding
from craft.contracts.services.datasets import Reading
from craft.core.findings import FindingCode
from craft.errors import Severity
from craft.infra.storage.artifacts import MANIFEST_FILE
from craft.infra.storage.verification import MANIFEST_CHECKSUM_FILE, sha256_of
from craft_gateway.plan.stages import plan

PATHS = ("/craft/jobs/validate", "/craft/jobs")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with row_checking_rig(tmp_path) as rig:
        tokenizer = model(tmp_path / "tokenizer")
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(tokenizer / name, rig.models / MODEL / name)
        yield rig


def asked(rig_rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A body whose probe leaves room in 512 tokens of one byte each."""
    short = {"max_new_tokens": 10, "shots": [{"question": "Who?", "answers": ["She"]}]}
    return body(**{"dataset": {"rows": rig_rows}, "probe": short, **changes})


def with_rows(*changed: dict[str, Any]) -> list[dict[str, Any]]:
    return [*rows(60), *({"id": f"changed{n}", **row} for n, row in enumerate(changed))]


LONG = {"question": "Why " + "is " * 300 + "it?", "answers": ["so"]}


def test_a_row_over_the_context_is_told_at_submission_with_its_line(rig: Rig) -> None:
    for path in PATHS:
        answer = rig.post(path, json=asked(with_rows(LONG)))
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "dataset_invalid"), problem
        assert "1 row of the dataset does not fit" in problem["detail"]
        assert '"accept": ["rows_too_long"]' in problem["hint"]
        [found] = problem["findings"]
        assert (found["code"], found["severity"], found["lines"]) == ("rows_too_long", "error", [61])
        assert found["examples"][0].startswith("Why is is")
    assert rig.get("/craft/jobs").json()["data"] == []


def test_accepted_long_rows_are_left_out_of_every_stage_and_stay_visible(rig: Rig) -> None:
    sent = asked(with_rows(LONG), accept=["rows_too_long"])
    validation = rig.post("/craft/jobs/validate", json=sent).json()
    [found] = validation["findings"]
    assert (found["code"], found["severity"], found["accepted"]) == ("rows_too_long", "warning", True)
    assert [check["outcome"] for check in validation["checks"] if check["name"] == "rows"] == ["passed"]
    job = rig.post("/craft/jobs", json=sent).json()
    assert job["findings"] == validation["findings"]
    assert rig.get(f"/craft/jobs/{job['id']}").json()["findings"] == job["findings"]
    stages = {stage.name: stage.parameters for stage in plan(rig.reader.resolved(job["id"]))}
    assert stages["ingest"].left_out == [61]  # type: ignore[union-attr]
    assert [each.code for each in stages["report"].findings] == ["rows_too_long"]  # type: ignore[union-attr]
    assert [each.code for each in stages["package:cor-rait"].findings] == ["rows_too_long"]  # type: ignore[union-attr]


def test_a_row_over_the_trainings_length_is_told_before_anything_ran(rig: Rig) -> None:
    long = [{"question": f"{n} " + "x" * 200, "answers": ["y"]} for n in range(20)]
    answer = rig.post("/craft/jobs", json=asked(with_rows(*long), training={"max_length": 256}))
    [found] = answer.json()["findings"]
    assert "training.max_length" in found["message"]
    # Of the twenty only those on the training side: a held-out row is never trained.
    assert 0 < found["count"] < 20


def test_rows_of_an_evaluation_set_are_measured_too(rig: Rig) -> None:
    further = rig.post("/craft/datasets", json={"rows": with_rows(LONG), "name": "further"}).json()["id"]
    answer = rig.post("/craft/jobs", json=asked(rows(60), evaluation=[{"dataset": further}]))
    [found] = answer.json()["findings"]
    assert "the evaluation set further" in found["message"]
    assert found["lines"] == [61]


def test_special_tokens_of_the_model_in_answers_are_an_error(rig: Rig) -> None:
    given = [{**row, "answers": [f"{row['answers'][0]}{OWN_TOKEN}"]} for row in rows(60)]
    [found] = rig.post("/craft/jobs", json=asked(given)).json()["findings"]
    assert (found["code"], found["severity"], found["count"]) == ("model_tokens", "error", 60)
    assert found["lines"] == list(range(1, 11))
    assert OWN_TOKEN in found["examples"][0]
    accepted = rig.post("/craft/jobs/validate", json=asked(given, accept=["model_tokens"]))
    assert [found["accepted"] for found in accepted.json()["findings"]] == [True]


def test_the_jobs_own_refusal_among_the_answers_is_a_warning(rig: Rig) -> None:
    templates = {"templates": {"refusal": "No idea at all."}, "extra_refusals": ["No idea at all"]}
    given = [{**row, "answers": ["No idea at all"]} if n < 15 else row for n, row in enumerate(rows(60))]
    answer = rig.post("/craft/jobs/validate", json=asked(given, prompts=templates))
    assert answer.status_code == 200, answer.text
    [found] = [each for each in answer.json()["findings"] if each["code"] == "answers_refuse"]
    assert (found["severity"], found["count"]) == ("warning", 15)
    assert "25% of the rows" in found["message"]


IGNORES = CHAT_TEMPLATE.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "")
INSTRUCT = (
    "{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }}</s>{% endif %}{% endfor %}"
)


def test_a_template_without_a_reply_header_is_an_error(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(IGNORES)
    problem = rig.post("/craft/jobs", json=asked(rows(60))).json()
    assert [found["code"] for found in problem["findings"]] == ["no_reply_header"]
    assert rig.post("/craft/jobs", json=asked(rows(60), accept=["no_reply_header"])).status_code == 202


def test_a_template_whose_replies_follow_the_users_turn_needs_no_header(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(INSTRUCT)
    answer = rig.post("/craft/jobs/validate", json=asked(rows(60)))
    assert answer.status_code == 200, answer.text
    assert answer.json()["findings"] == []


def test_a_model_without_a_chat_template_is_refused_at_submission(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").unlink()
    for path in PATHS:
        problem = rig.post(path, json=asked(rows(60))).json()
        assert (problem["code"], problem["param"]) == ("model_unsupported", "base_model")
        assert "no chat template" in problem["detail"]


def test_letters_behind_a_blank_header_are_told_at_submission(rig: Rig) -> None:
    tokenizer = model(rig.models / "blank", merges=[("Ġ", "B")])
    shutil.copy(tokenizer / "tokenizer.json", rig.models / MODEL / "tokenizer.json")
    (rig.models / MODEL / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("assistant\n", "assistant: "))
    given = [{"question": f"Which is {n}?", "choices": [f"{n}", f"{n + 1}"], "answer": 0} for n in range(60)]
    problem = rig.post("/craft/jobs", json=asked(given, task="multiple_choice", probe={})).json()
    assert problem["code"] == "model_unsupported", problem
    assert "B is not one token" in problem["detail"]
    assert "blank" in problem["hint"]


def test_a_held_out_shot_is_refused_at_submission_and_a_trained_one_is_a_warning(rig: Rig) -> None:
    outcomes = set()
    for n in range(12):
        shots = {"max_new_tokens": 10, "shots": [{"question": f"WHAT is {n} plus {n}", "answers": ["x"]}]}
        answer = rig.post("/craft/jobs/validate", json=asked(rows(60), probe=shots))
        if answer.status_code == 200:
            outcomes.add(tuple(found["code"] for found in answer.json()["findings"]))
        else:
            assert answer.json()["param"] == "probe.shots"
            assert f"line {n + 1} of the dataset" in answer.json()["detail"]
            outcomes.add(("refused",))
    assert outcomes == {("refused",), ("shots_in_training",)}


def test_a_tokenizer_that_cannot_be_read_is_an_unknown_check_and_not_a_passed_one(rig: Rig) -> None:
    (rig.models / MODEL / "tokenizer.json").write_text("{}")
    checks = rig.post("/craft/jobs/validate", json=asked(rows(60))).json()["checks"]
    [found] = [check for check in checks if check["name"] == "rows"]
    assert found["outcome"] == "unknown"
    assert "were not checked" in found["message"]


def test_what_the_upload_noticed_of_the_same_rows_is_told_once(rig: Rig) -> None:
    given = [{**row, "answers": ["I don't know"]} if n < 15 else row for n, row in enumerate(rows(60))]
    upload = Finding(
        code=FindingCode.ANSWERS_REFUSE, severity=Severity.WARNING, message="Noticed.", lines=[*range(1, 11)], count=15
    )
    rewrite_findings(rig, given, upload)
    answer = rig.post("/craft/jobs/validate", json=asked(given))
    [found] = answer.json()["findings"]
    assert (found["code"], found["count"], "25% of the rows" in found["message"]) == ("answers_refuse", 15, True)


def rewrite_findings(rig: Rig, given: list[dict[str, Any]], *findings: Finding) -> None:
    """Upload the rows, and give the dataset's manifest these findings."""
    ref = rig.registry.add_rows(given, Reading(), name=None, team="default", param="rows").ref
    path = rig.store.open(ref) / MANIFEST_FILE
    manifest = rig.store.manifest(ref)
    result = manifest.result.model_copy(update={"findings": list(findings)})
    path.write_text(manifest.model_copy(update={"result": result}).model_dump_json(indent=1))
    (path.parent / MANIFEST_CHECKSUM_FILE).write_text(sha256_of(path))
