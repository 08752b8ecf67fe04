"""Errors say what went wrong and what to do next."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as opened:
        yield opened


def problem(answer: Any, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


@pytest.mark.parametrize("path", ["/craft/jobs", "/craft/jobs/validate", "/v1/craft/jobs", "/craft/datasets"])
def test_broken_json_says_where_it_breaks(rig: Rig, path: str) -> None:
    shown = problem(rig.post(path, content='{\n  "name": "x",\n}', headers=JSON))
    assert shown["detail"].startswith("The body is not JSON: Expecting property name")
    assert shown["detail"].endswith(" at line 3, column 1.")
    assert shown["param"] is None
    assert "double quotes" in shown["hint"]


def test_broken_json_says_so_in_openais_form_too(rig: Rig) -> None:
    for path in ("/v1/chat/completions", "/v1/fine_tuning/jobs"):
        error = problem(rig.post(path, content='{"model": x}', headers=JSON), 400)["error"]
        assert "The body is not JSON: Expecting value at line 1, column 11." in error["message"]
        assert error["param"] is None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("path", ["/craft/jobs", "/v1/chat/completions"])
def test_json_of_another_type_names_the_header(rig: Rig, kind: str | None, path: str) -> None:
    answer = rig.post(path, content=b'{"name": "x"}', headers={"Content-Type": kind} if kind else {})
    shown = answer.json()
    text = f"{shown['detail']} {shown['hint']}" if "detail" in shown else shown["error"]["message"]
    assert (f"its Content-Type is {kind}" if kind else "it has no Content-Type") in text
    assert "`Content-Type: application/json`" in text
    assert (shown.get("error") or shown)["param"] == "Content-Type"


def test_a_call_without_a_body_is_told_so(rig: Rig) -> None:
    shown = problem(rig.post("/craft/jobs"))
    assert shown["detail"] == "The request has no body."
    assert "application/json" in shown["hint"]


def test_what_a_job_that_ended_has_not_made_is_made_by_a_retry(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        job_id = rig.submit()
        rig.post(f"/craft/jobs/{job_id}/cancel")
        for what in ("adapter", "report.html"):
            shown = problem(rig.get(f"/craft/jobs/{job_id}/{what}"), 409)
            assert f"POST /craft/jobs/{job_id}/retry" in shown["hint"]
            assert "`error`" not in shown["hint"]


def test_an_adapter_of_a_strategy_that_the_job_has_not_is_told_with_those_that_it_has(rig: Rig) -> None:
    job_id = rig.submit(strategies=["cor-rait", "van-tuning"])
    publish = {"target": {"kind": "mlflow", "model_name": "x"}, "strategy": "craft"}
    for answer in (
        rig.get(f"/craft/jobs/{job_id}/adapter?strategy=craft"),
        rig.post(f"/craft/jobs/{job_id}/deploy", json={"strategy": "craft"}),
        rig.post(f"/craft/jobs/{job_id}/publish", json=publish),
    ):
        shown = problem(answer, 404)
        assert shown["detail"] == "The job has no adapter of craft."
        assert (shown["hint"], shown["param"]) == ("It has cor-rait, van-tuning.", "strategy")


@pytest.mark.parametrize(("name", "template"), [("nope", "x"), ("open_basic", " "), ("refusal", "{question}")])
def test_a_template_is_named_by_its_place(rig: Rig, name: str, template: str) -> None:
    shown = problem(rig.post("/craft/jobs", json=body(prompts={"templates": {name: template}})))
    assert shown["param"] == f"prompts.templates.{name}"


def test_an_unknown_path_says_where_paths_are_listed(rig: Rig) -> None:
    shown = problem(rig.get("/craft/job"), 404)
    assert "/docs" in shown["hint"]
    assert "/openapi.json" in shown["hint"]
    assert "/openapi.json" in problem(rig.get("/v1/model"), 404)["error"]["message"]


def test_a_wrong_method_says_which_there_are(rig: Rig) -> None:
    assert problem(rig.request("PUT", "/craft/jobs"), 405)["hint"] == "This path takes GET, HEAD, POST."
    assert "GET, HEAD" in problem(rig.post("/v1/models"), 405)["error"]["message"]


def test_a_dataset_of_nothing_is_told_what_there_may_be(rig: Rig) -> None:
    shown = problem(rig.post("/craft/datasets", json={}))
    for way in ("`rows`", "`source`", "`file`"):
        assert way in f"{shown['detail']} {shown['hint']}"


def test_no_message_begins_with_the_validators_own_words(rig: Rig) -> None:
    shown = problem(rig.post("/craft/jobs", json=body(dataset={})))
    assert "Value error" not in str(shown)
    assert "Value error" not in rig.get("/craft/jobs?created_after=1").text


def test_one_job_is_one(rig: Rig) -> None:
    path = "/craft/jobs/compare?ids="
    assert problem(rig.get(f"{path}cjob_x"))["detail"] == "1 job cannot be compared."
    assert problem(rig.get(f"{path},"))["detail"] == "0 jobs cannot be compared."


def test_what_is_missing_has_no_excerpt(rig: Rig) -> None:
    shown = problem(rig.post("/craft/jobs", json=body(probe={"shots": [{"answers": ["x"]}]})))
    assert [place["excerpt"] for place in shown["errors"]] == [None]


RAW = re.compile(r"Input should|should (?:be|match|have)|String |Field required|Extra inputs|valid dict|\[str\]|list\[")


@pytest.mark.parametrize(
    ("wrong", "param", "words"),
    [
        ({"base_model": 3}, "base_model", 'must be an object such as {"id": "HuggingFaceTB/SmolLM2-135M-Instruct"}'),
        ({"dataset": "DATASET"}, "dataset.id", "must be an id such as dset_01jgywz3x4v5q6r7s8t9vawbxc, not"),
        ({"dataset": {"id": "DATASET"}}, "dataset.id", "must be an id such as dset_01jgywz3x4v5q6r7s8t9vawbxc, not"),
        ({"strategie": ["craft"]}, "strategie", "did you mean `strategies`?"),
        ({"training": {"target_modules": 3}}, "training.target_modules", "must be a list, not 3; or must be 'all-"),
        ({"training": {"lora_r": "64"}}, "training.lora_r", 'must be a whole number, not "64"'),
    ],
)
def test_a_wrong_field_is_told_in_plain_words(rig: Rig, wrong: dict[str, Any], param: str, words: str) -> None:
    for path in ("/craft/jobs", "/craft/jobs/validate"):
        shown = problem(rig.post(path, json=body(**wrong)))
        assert shown["param"] == param
        assert words in shown["detail"]
        assert f"`{param}` " in shown["detail"]
        assert [place["field"] for place in shown["errors"]] == [param]
        assert not RAW.search(str(shown))


def test_a_parameter_of_the_query_is_told_in_plain_words(rig: Rig) -> None:
    for query in ("limit=0", "limit=x", "limit=1e9", "after=x", "status=nope", "created_after=x"):
        shown = problem(rig.get(f"/craft/jobs?{query}"))
        assert not RAW.search(str(shown)), query


def test_a_model_and_a_dataset_may_be_named_by_a_text(rig: Rig) -> None:
    stored = rig.post("/craft/jobs/validate", json=body()).json()["resolved"]["dataset"]
    spec = body(dataset=stored | {"rows": None})
    short = spec | {"base_model": f"{spec['base_model']['id']}@main", "dataset": stored["id"]}
    answers = [rig.post("/craft/jobs/validate", json=each) for each in (spec, short)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["resolved"] == answers[1].json()["resolved"]
