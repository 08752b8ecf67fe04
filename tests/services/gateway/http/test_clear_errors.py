"""What went wrong, in words, and what to do about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as made:
        yield made


def problem(answer: Any, status: int = 422) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("path", ["/craft/jobs", "/craft/jobs/validate", "/v1/craft/jobs", "/craft/datasets"])
def test_broken_json_says_where_it_breaks(rig: Rig, path: str) -> None:
    found = problem(rig.post(path, content='{\n  "name": "x",\n}', headers=JSON))
    assert found["detail"].startswith("The body is not JSON: Expecting property name")
    assert found["detail"].endswith(" at line 3, column 1.")
    assert found["param"] is None
    assert "double quotes" in found["hint"]


def test_broken_json_says_so_in_openais_form_too(rig: Rig) -> None:
    for path in ("/v1/chat/completions", "/v1/fine_tuning/jobs"):
        error = problem(rig.post(path, content='{"model": x}', headers=JSON), 400)["error"]
        assert "The body is not JSON: Expecting value at line 1, column 11." in error["message"]
        assert error["param"] is None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("path", ["/craft/jobs", "/v1/chat/completions"])
def test_json_of_another_type_names_the_header(rig: Rig, kind: str | None, path: str) -> None:
    answer = rig.post(path, content=b'{"name": "x"}', headers={"Content-Type": kind} if kind else {})
    found = answer.json()
    told = f"{found['detail']} {found['hint']}" if "detail" in found else found["error"]["message"]
    assert (f"its Content-Type is {kind}" if kind else "it has no Content-Type") in told
    assert "`Content-Type: application/json`" in told
    assert (found.get("error") or found)["param"] == "Content-Type"


def test_a_call_without_a_body_is_told_so(rig: Rig) -> None:
    found = problem(rig.post("/craft/jobs"))
    assert found["detail"] == "The request has no body."
    assert "application/json" in found["hint"]


def test_what_a_job_that_ended_has_not_made_is_made_by_a_retry(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        job_id = rig.submit()
        rig.post(f"/craft/jobs/{job_id}/cancel")
        for what in ("adapter", "report.html"):
            found = problem(rig.get(f"/craft/jobs/{job_id}/{what}"), 409)
            assert f"POST /craft/jobs/{job_id}/retry" in found["hint"]
            assert "`error`" not in found["hint"]


def test_an_adapter_of_a_strategy_that_the_job_has_not_is_told_with_those_that_it_has(rig: Rig) -> None:
    job_id = rig.submit(strategies=["cor-rait", "van-tuning"])
    publish = {"target": {"kind": "mlflow", "model_name": "x"}, "strategy": "craft"}
    for answer in (
        rig.get(f"/craft/jobs/{job_id}/adapter?strategy=craft"),
        rig.post(f"/craft/jobs/{job_id}/deploy", json={"strategy": "craft"}),
        rig.post(f"/craft/jobs/{job_id}/publish", json=publish),
    ):
        found = problem(answer, 404)
        assert found["detail"] == "The job has no adapter of craft."
        assert (found["hint"], found["param"]) == ("It has cor-rait, van-tuning.", "strategy")


@pytest.mark.parametrize(("name", "template"), [("nope", "x"), ("open_basic", " "), ("refusal", "{question}")])
def test_a_template_is_named_by_its_place(rig: Rig, name: str, template: str) -> None:
    found = problem(rig.post("/craft/jobs", json=body(prompts={"templates": {name: template}})))
    assert found["param"] == f"prompts.templates.{name}"


def test_an_unknown_path_says_where_paths_are_listed(rig: Rig) -> None:
    found = problem(rig.get("/craft/job"), 404)
    assert "/docs" in found["hint"]
    assert "/openapi.json" in found["hint"]
    assert "/openapi.json" in problem(rig.get("/v1/model"), 404)["error"]["message"]


def test_a_wrong_method_says_which_there_are(rig: Rig) -> None:
    assert problem(rig.request("PUT", "/craft/jobs"), 405)["hint"] == "This path takes GET, HEAD, POST."
    assert "GET, HEAD" in problem(rig.post("/v1/models"), 405)["error"]["message"]


def test_a_dataset_of_nothing_is_told_what_there_may_be(rig: Rig) -> None:
    found = problem(rig.post("/craft/datasets", json={}))
    for way in ("`rows`", "`source`", "`file`"):
        assert way in f"{found['detail']} {found['hint']}"


def test_no_message_begins_with_the_validators_own_words(rig: Rig) -> None:
    found = problem(rig.post("/craft/jobs", json=body(dataset={})))
    assert "Value error" not in str(found)
    assert "Value error" not in rig.get("/craft/jobs?created_after=1").text


def test_one_job_is_one(rig: Rig) -> None:
    path = "/craft/jobs/compare?ids="
    assert problem(rig.get(f"{path}cjob_x"))["detail"] == "1 job cannot be compared."
    assert problem(rig.get(f"{path},"))["detail"] == "0 jobs cannot be compared."


def test_what_is_missing_has_no_excerpt(rig: Rig) -> None:
    found = problem(rig.post("/craft/jobs", json=body(probe={"shots": [{"answers": ["x"]}]})))
    assert [each["excerpt"] for each in found["errors"]] == [None]
