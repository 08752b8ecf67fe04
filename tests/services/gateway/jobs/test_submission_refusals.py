"""What cannot become a job is answered with a problem that says what to change, and nothing is queued."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.dataset_rig import row_checking_rig
from tests.services.gateway.rigs.public_rig import (
    MODEL,
    UNKNOWN_DATASET,
    Rig,
    body,
    model_folder,
    open_rig,
    rows,
)

from craft.contracts.spec.jobs import JobSpec
from craft.errors import RequestInvalid
from craft.infra.settings.training import TrainingServiceSettings
from craft_gateway.http.bodies import MAX_JSON_BYTES
from craft_gateway.jobs.examples import JOB_EXAMPLES
from craft_gateway.jobs.submission import Submission
from craft_gateway.lifecycle.creation import Idempotency


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with row_checking_rig(tmp_path) as rig:
        yield rig


def choice(options: int) -> dict[str, Any]:
    return {"question": "Which?", "choices": [f"option {n}" for n in range(options)], "answer": 0}


def dataset(*given: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": {"rows": list(given)}}


REFUSED: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("unknown field", {"epochs": 3}, "request_invalid", "epochs"),
    ("unknown nested field", {"training": {"lora": 8}}, "request_invalid", "training.lora"),
    ("unknown strategy", {"strategies": ["magic"]}, "request_invalid", "strategies.0"),
    ("strategy named twice", {"strategies": ["craft", "craft"]}, "request_invalid", None),
    ("no strategy", {"strategies": []}, "request_invalid", "strategies"),
    ("dataset both ways", {"dataset": {"id": UNKNOWN_DATASET, "rows": []}}, "request_invalid", "dataset"),
    ("dataset neither way", {"dataset": {}}, "request_invalid", "dataset"),
    ("malformed dataset id", {"dataset": {"id": "../../etc/passwd"}}, "request_invalid", "dataset.id"),
    ("unknown dataset", {"dataset": {"id": UNKNOWN_DATASET}}, "request_invalid", "dataset.id"),
    (
        "unknown evaluation set",
        {"evaluation": [{"dataset": UNKNOWN_DATASET}]},
        "request_invalid",
        "evaluation.0.dataset",
    ),
    ("empty dataset", dataset(), "dataset_invalid", "dataset.rows"),
    ("one row", dataset(rows(1)[0]), "dataset_invalid", "dataset"),
    ("duplicate ids", dataset(*rows(2), *rows(1)), "dataset_invalid", "dataset.rows"),
    ("no answers", dataset({"question": "Why?"}), "dataset_invalid", "dataset.rows"),
    ("empty answers", dataset({"question": "Why?", "answers": []}), "dataset_invalid", "dataset.rows"),
    ("blank answer", dataset({"question": "Why?", "answers": [" "]}), "dataset_invalid", "dataset.rows"),
    ("NUL", dataset({"question": "Why\0?", "answers": ["x"]}), "dataset_invalid", "dataset.rows"),
    ("a number beyond 64 bits", dataset({"question": "Why?", "answers": [10**30]}), "dataset_invalid", "dataset.rows"),
    ("27 options", {"task": "multiple_choice", **dataset(choice(27))}, "dataset_invalid", "dataset.rows"),
    ("options without a task", dataset(choice(4)), "dataset_invalid", "task"),
    ("one option", {"task": "multiple_choice", **dataset(choice(1))}, "dataset_invalid", "dataset.rows"),
    (
        "answer not among the choices",
        {"task": "multiple_choice", **dataset({**choice(4), "answer": "E"})},
        "dataset_invalid",
        "dataset.rows",
    ),
    ("missing model", {"base_model": {"id": "none/such"}}, "model_not_found", "base_model"),
    ("a path as model", {"base_model": {"id": "../../etc"}}, "request_invalid", "base_model.id"),
    ("pickled model", {"base_model": {"id": "tiny/pickled"}}, "model_unsupported", "base_model"),
    ("model with code of its own", {"base_model": {"id": "tiny/remote"}}, "model_unsupported", "base_model"),
    ("replies as long as the context", {"probe": {"max_new_tokens": 512}}, "context_too_long", "probe.max_new_tokens"),
    ("unknown template", {"prompts": {"templates": {"none": "x"}}}, "request_invalid", "prompts.templates.none"),
    (
        "a refusal that nobody would recognise",
        {"prompts": {"templates": {"refusal": "Ask a librarian."}}},
        "request_invalid",
        "prompts.templates.refusal",
    ),
    ("unknown language", {"prompts": {"language": "xx"}}, "request_invalid", "language"),
    ("a shot without answer", {"probe": {"shots": [{"question": "Why?"}]}}, "dataset_invalid", "probe.shots"),
    ("rehearsal too short", {"strategies": ["craft"], **dataset(*rows(50))}, "rehearsal_too_short", "rehearsal"),
    ("NaN", {"selection": {"tau": "NaN"}}, "request_invalid", "selection.tau"),
    ("no layer", {"training": {"target_modules": []}}, "request_invalid", "training.target_modules"),
    ("an empty layer", {"training": {"target_modules": [""]}}, "request_invalid", "training.target_modules.0"),
    ("a layer named twice", {"training": {"target_modules": ["a", "a"]}}, "request_invalid", "training"),
    ("a count beyond 64 bits", {"rehearsal": {"size": 10**30}}, "request_invalid", "rehearsal.size"),
    ("van questions beyond 64 bits", {"selection": {"n_van": 10**30}}, "request_invalid", "selection.n_van"),
    ("idk questions beyond 64 bits", {"selection": {"n_idk": 2**63}}, "request_invalid", "selection.n_idk"),
    ("steps beyond 64 bits", {"training": {"min_steps": 10**25}}, "request_invalid", "training.min_steps"),
    ("a gradient of 1e308", {"training": {"max_grad_norm": 1e308}}, "request_invalid", "training.max_grad_norm"),
    ("a long refusal", {"prompts": {"extra_refusals": ["no " * 67]}}, "request_invalid", "prompts.extra_refusals.0"),
    ("a refusal with NUL", {"prompts": {"extra_refusals": ["no\0"]}}, "request_invalid", "prompts.extra_refusals.0"),
    ("a label with NUL", {"labels": {"a\0": "b"}}, "request_invalid", "labels.a\0"),
    (
        "a template with NUL",
        {"prompts": {"templates": {"open_basic": "\0{question}"}}},
        "request_invalid",
        "prompts.templates.open_basic",
    ),
    (
        "a template of many questions",
        {"prompts": {"templates": {"open_probe": "{question}" * 5}}},
        "request_invalid",
        "prompts.templates.open_probe",
    ),
    (
        "a template of 20 KB",
        {"prompts": {"templates": {"open_basic": "{question}" + "é" * 10_000}}},
        "request_invalid",
        "prompts.templates.open_basic",
    ),
    (
        "a long part of a prompt",
        {"prompts": {"templates": {"choice_option": "{letter}{option}" + "x" * 2000}}},
        "request_invalid",
        "prompts.templates.choice_option",
    ),
    ("4 bits without bitsandbytes", {"training": {"quantization": "nf4"}}, "request_invalid", "training.quantization"),
    ("4 bits in rehearsal", {"rehearsal": {"training": {"quantization": "nf4"}}}, "request_invalid", "rehearsal"),
    ("another quantization", {"training": {"quantization": "int8"}}, "request_invalid", "training.quantization"),
    ("the server's own knobs", {"trust_remote_code": True}, "request_invalid", "trust_remote_code"),
]


@pytest.mark.parametrize(
    ("changes", "code", "param"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_bad_input_is_a_clear_problem(rig: Rig, changes: dict[str, Any], code: str, param: str | None) -> None:
    model_folder(rig.models, "tiny/pickled", weights="pytorch_model.bin")
    model_folder(rig.models, "tiny/remote", auto_map={"AutoModel": "code.py"})
    for path in ("/craft/jobs", "/craft/jobs/validate"):
        answer = rig.post(path, json=body(**changes))
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["fault"]) == (422, code, "user"), problem
        assert problem["param"] == param
        assert problem["hint"]
        assert answer.headers["content-type"] == "application/problem+json"
    assert rig.get("/craft/jobs").json()["data"] == []


def test_a_job_that_says_open_ended_ignores_options(rig: Rig) -> None:
    given = [{**row, "choices": ["yes", "no"]} for row in rows()]
    for path, status in (("/craft/jobs/validate", 200), ("/craft/jobs", 202)):
        asked = rig.post(path, json=body(task="open_ended", dataset={"rows": given}))
        assert asked.status_code == status, asked.text
        refused = rig.post(path, json=body(dataset={"rows": given}))
        assert (refused.status_code, refused.json()["param"]) == (422, "task")


def test_row_errors_name_row_field_and_excerpt(rig: Rig) -> None:
    given = [*rows(3), {"question": "Why?", "answers": [""]}, {"question": 7, "answers": ["x"]}]
    problem = rig.post("/craft/jobs", json=body(dataset={"rows": given})).json()
    assert problem["detail"] == "2 of 5 rows cannot be used."
    assert [(error["line"], error["field"]) for error in problem["errors"]] == [(4, "answers[0]"), (5, "question")]
    assert problem["errors"][1]["excerpt"] == "7"


def test_at_most_a_hundred_row_errors_travel(rig: Rig) -> None:
    problem = rig.post("/craft/jobs", json=body(dataset={"rows": [{}] * 150})).json()
    assert (problem["detail"], len(problem["errors"])) == ("150 of 150 rows cannot be used.", 100)


@pytest.mark.parametrize("path", ["training", "rehearsal"])
@pytest.mark.parametrize(
    ("targets", "absent"),
    [
        (["nope"], "nope"),
        (["q_proj", "proj"], "proj"),
        (["q_proj"], None),
        (["self_attn.q_proj"], None),
        (["lm_head"], None),
    ],
)
def test_a_layer_that_the_model_does_not_have_is_refused(
    rig: Rig, path: str, targets: list[str], absent: str | None
) -> None:
    model_folder(rig.models, "with/layers", tie_word_embeddings=False)
    settings = {"target_modules": targets}
    changes = {"training": settings} if path == "training" else {"rehearsal": {"training": settings}}
    answer = rig.post("/craft/jobs/validate", json=body(base_model={"id": "with/layers"}, **changes))
    if absent is None:
        assert answer.status_code == 200, answer.text
        return
    problem = answer.json()
    assert (answer.status_code, problem["detail"]) == (422, f"The model has no layer called {absent}.")
    assert problem["param"].endswith("training.target_modules")
    assert "It has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in problem["hint"]


def test_an_unknown_model_is_refused_with_those_that_there_are(rig: Rig) -> None:
    model_folder(rig.models, "another")
    problem = rig.post("/craft/jobs", json=body(base_model={"id": "tiny/modle"})).json()
    assert problem["code"] == "model_not_found"
    assert problem["hint"].startswith("There are another, tiny/model. ")


def test_26_options_are_accepted(rig: Rig) -> None:
    items = [{**choice(26), "question": f"Which, {n}?"} for n in range(2)]
    answer = rig.post("/craft/jobs", json=body(task="multiple_choice", dataset={"rows": items}))
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"name": "\xff"}',
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        "{}".encode("utf-32"),
    ],
    ids=["nothing", "half", "a list", "not UTF-8", "deeply nested", "huge number", "UTF-32"],
)
@pytest.mark.parametrize("path", ["/craft/jobs", "/craft/api-keys", "/v1/fine_tuning/jobs"])
def test_a_body_that_is_no_json_object_is_a_problem(rig: Rig, path: str, content: bytes) -> None:
    answer = rig.post(path, content=content, headers={"content-type": "application/json"})
    if path.startswith("/v1/"):
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        return
    assert (answer.status_code, answer.json()["fault"]) == (422, "user")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_lone_surrogate_is_a_row_error(rig: Rig) -> None:
    content = b'{"base_model": {"id": "tiny/model"}, "dataset": {"rows": [{"question": "\\ud800?", "answers": ["x"]}]}}'
    answer = rig.post("/craft/jobs", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert answer.json()["errors"][0]["field"] == "question"


def test_a_json_body_is_bounded(rig: Rig) -> None:
    content = b" " * (MAX_JSON_BYTES + 1)
    answer = rig.post("/craft/jobs", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert "upload" in answer.json()["hint"].lower()


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_an_idempotency_key_is_short_and_printable(rig: Rig, key: str) -> None:
    answer = rig.post("/craft/jobs", json=body(), headers={"Idempotency-Key": key})
    assert answer.json()["code"] == "request_invalid"


def test_a_datasets_service_that_is_away_loses_nothing(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        rig.datasets.down = True
        answer = rig.post("/craft/jobs", json=body())
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "unavailable", True)
        assert int(answer.headers["retry-after"]) > 0
        rig.datasets.down = False
        assert rig.post("/craft/jobs", json=body()).status_code == 202


def test_a_dataset_of_the_other_task_is_refused(rig: Rig) -> None:
    dataset_id = rig.post("/craft/datasets", json={"rows": rows()}).json()["id"]
    problem = rig.post("/craft/jobs", json=body(task="multiple_choice", dataset={"id": dataset_id})).json()
    assert (problem["code"], problem["param"]) == ("request_invalid", "task")
    assert "open_ended" in problem["hint"]


def test_evaluation_sets_are_named_by_their_dataset_and_once(rig: Rig) -> None:
    first = rig.post("/craft/datasets", json={"name": "My Sums!", "rows": rows(5)}).json()["id"]
    second = rig.post("/craft/datasets", json={"name": "my sums", "rows": rows(6)}).json()["id"]
    one = rig.post("/craft/jobs/validate", json=body(evaluation=[{"dataset": first}])).json()
    assert "ingest:my-sums" in [stage["name"] for stage in one["stages"]]
    both = body(evaluation=[{"dataset": first}, {"dataset": second}])
    assert rig.post("/craft/jobs", json=both).json()["param"] == "evaluation.1.name"
    taken = body(evaluation=[{"dataset": first, "name": "held_out"}])
    assert rig.post("/craft/jobs", json=taken).json()["param"] == "evaluation.0.name"
    named = body(evaluation=[{"dataset": first}, {"dataset": second, "name": "other"}])
    assert rig.post("/craft/jobs", json=named).status_code == 202


def test_validating_queues_nothing_and_shows_plan_and_cost(rig: Rig) -> None:
    wanted = body(strategies=["craft", "cor-rait"], rehearsal={"size": 48})
    shown = rig.post("/craft/jobs/validate", json=wanted).json()
    assert (shown["object"], shown["valid"]) == ("craft.validation", True)
    assert rig.get("/craft/jobs").json()["data"] == []
    assert {"rehearse", "flow", "tune:craft", "tune:cor-rait", "report"} <= {stage["name"] for stage in shown["stages"]}
    assert shown["estimate"]["stages"] == len(shown["stages"])
    assert (shown["estimate"]["train_questions"], shown["estimate"]["held_out_questions"]) == (160, 40)
    # Two probes of 160 questions; four answers (BASIC, REFUSE, two strategies) of 40.
    assert shown["estimate"]["prompts"] == 2 * 160 + 4 * 40
    assert shown["estimate"]["generated_tokens"] == 2 * 160 * 10 * 50 + 4 * 40 * 50
    # Three epochs of 48 rehearsed questions, and of at most 160 for each strategy.
    assert shown["estimate"]["trained_samples"] == 3 * (48 + 160 + 160)
    assert shown["estimate"]["optimiser_steps"] == 3 * (3 + 10 + 10)


def test_validating_sees_what_would_be_reused(rig: Rig) -> None:
    rig.finish(rig.submit())
    shown = rig.post("/craft/jobs/validate", json=body(strategies=["van-tuning"])).json()
    reused = [stage["name"] for stage in shown["stages"] if stage["reused"]]
    assert reused == ["ingest", "probe:initial", "score:initial", "answer:basic", "answer:refuse"]
    assert shown["estimate"]["reused_stages"] == 5
    assert shown["estimate"]["prompts"] == 40


def test_inline_rows_are_a_dataset_that_can_be_named_next_time(rig: Rig) -> None:
    shown = rig.post("/craft/jobs/validate", json=body()).json()
    again = rig.post("/craft/jobs", json=body(dataset=shown["resolved"]["dataset"]))
    assert again.status_code == 202
    assert len(rig.get("/craft/datasets").json()["data"]) == 1


def test_the_documented_examples_have_the_documented_form(rig: Rig) -> None:
    for example in JOB_EXAMPLES.values():
        JobSpec.model_validate(example["value"])
    inline = {**JOB_EXAMPLES["inline"]["value"], "base_model": {"id": "tiny/model"}}
    assert rig.post("/craft/jobs", json=inline).status_code == 202


def test_two_bodies_that_differ_in_spelling_only_are_the_same_whatever_their_numbers() -> None:
    rows_of_big = {"rows": [{"question": "?", "answers": [10**40]}]}
    first = JobSpec.model_validate({"base_model": {"id": "m"}, "dataset": rows_of_big})
    second = JobSpec.model_validate({"dataset": rows_of_big, "base_model": {"id": "m", "revision": "main"}})
    assert Idempotency.of("k", "team", first) == Idempotency.of("k", "team", second)
    assert Idempotency.of("k", "team", first) != Idempotency.of("k", "team", first.model_copy(update={"seed": 1}))


def test_of_shots_only_what_is_read_is_kept(rig: Rig) -> None:
    deep: object = "bottom"
    for _ in range(300):
        deep = [deep]
    shot = {"question": "What is 1 plus 1?", "answer": "2", "note": "\ud800", "deep": deep}
    text = json.dumps(body(probe={"shots": [shot]}))
    answer = rig.post("/craft/jobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text
    [kept] = answer.json()["resolved"]["probe"]["shots"]
    assert {name: kept[name] for name in kept if name != "id"} == {"question": "What is 1 plus 1?", "answers": ["2"]}
    assert rig.get("/craft/jobs").status_code == 200
    keyed = rig.post(
        "/craft/jobs", content=text, headers={"Content-Type": "application/json", "Idempotency-Key": "a-key"}
    )
    assert (keyed.status_code, keyed.json()["detail"]) == (422, "The body is nested too deeply.")


FIRST_JOB = Path(__file__).parents[4] / "shared" / "docs" / "first-job.md"


def test_the_first_jobs_file_is_that_of_its_guide() -> None:
    (text,) = re.findall(r"```json small\n(.*?)```", FIRST_JOB.read_text(), re.DOTALL)
    assert text == FIRST_JOB.with_suffix(".json").read_text()


@pytest.mark.parametrize(("block", "enough"), [("json small", 100), ("json", 430)])
def test_the_first_jobs_guide_says_how_many_rows_are_needed(rig: Rig, block: str, enough: int) -> None:
    blocks = re.findall(rf"```{block}\n(.*?)```", FIRST_JOB.read_text(), re.DOTALL)
    [spec] = [json.loads(text) for text in blocks if "base_model" in text]
    assert f"{enough} rows" in FIRST_JOB.read_text()
    spec["base_model"] = MODEL

    def answered(count: int) -> tuple[int, str | None]:
        answer = rig.post("/craft/jobs/validate", json={**spec, "dataset": {"rows": rows(count)}})
        return answer.status_code, answer.json().get("code")

    assert answered(enough) == (200, None)
    if block == "json":
        assert answered(enough - 70) == (422, "rehearsal_too_short")


def test_training_in_4_bits_is_accepted_where_the_settings_say_that_workers_can(rig: Rig) -> None:
    asked = JobSpec.model_validate(body(training={"quantization": "nf4"}))
    with pytest.raises(RequestInvalid, match="bitsandbytes"):
        rig.submissions.submit(Submission(asked))
    rig.settings = rig.settings.model_copy(update={"training": TrainingServiceSettings(nf4=True)})
    assert rig.submissions.submit(Submission(asked)).resolved.training.quantization == "nf4"
