"""The four REST calls: their answers, and the problems that they report."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from craft.contracts.services.scoring import EvaluateRequest, FlowRequest
from craft.core.knowledge import certainty_of
from craft.errors import ModelNotFound
from craft.infra.http.app import create_app
from craft_scoring.embedding.embedder import Embedder
from craft_scoring.embedding.fake import HashingEmbedder
from craft_scoring.routes import JUDGE_EXAMPLES, STATES_EXAMPLES, router


@pytest.fixture
def http() -> Iterator[TestClient]:
    app = create_app(title="test", service="scoring", routers=[router(HashingEmbedder)])
    with TestClient(app) as client:
        yield client


def _rows(http: TestClient, path: str, body: object) -> list[dict[str, Any]]:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["rows"]
    assert isinstance(rows, list)
    return rows


def _problem(http: TestClient, path: str, body: object) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert isinstance(problem, dict)
    assert problem["fault"] == "user"
    return problem


def test_judge_open_ended(http: TestClient) -> None:
    replies = ["It is Paris.", "Lyon", "I don’t know.", "", "我不知道。"]
    rows = [{"id": str(n), "reply": reply, "answers": ["Paris"]} for n, reply in enumerate(replies)]
    rows[4]["language"] = "zh"
    judged = _rows(http, "/v1/judge", {"task": "open_ended", "rows": rows})
    assert [row["outcome"] for row in judged] == ["right", "wrong", "refused", "unparsed", "refused"]
    assert judged[0] == {"id": "0", "outcome": "right", "parsed": "Paris"}


@pytest.mark.parametrize("answer", ["B", 1, "green"])
def test_judge_multiple_choice_takes_letter_index_or_text(http: TestClient, answer: str | int) -> None:
    replies = ["B.", "A", "I don't know.", "As an AI, hm"]
    rows = [
        {"id": str(n), "reply": reply, "choices": ["red", "green"], "answer": answer} for n, reply in enumerate(replies)
    ]
    judged = _rows(http, "/v1/judge", {"task": "multiple_choice", "rows": rows})
    assert [row["outcome"] for row in judged] == ["right", "wrong", "refused", "unparsed"]
    assert [row["parsed"] for row in judged] == ["B", "A", None, None]


def test_judge_names_every_bad_row(http: TestClient) -> None:
    good = {"id": "a", "reply": "A", "choices": ["red", "green"], "answer": "A"}
    problem = _problem(
        http, "/v1/judge", {"task": "multiple_choice", "rows": [good, good | {"answer": "Z"}, good | {"answer": 2}]}
    )
    assert problem["code"] == "request_invalid"
    assert [(error["field"], error["line"]) for error in problem["errors"]] == [
        ("rows[1].answer", 2),
        ("rows[2].answer", 3),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"task": "essay", "rows": []},
        {"task": "open_ended", "rows": []},
        {"task": "open_ended", "rows": [{"id": "a", "reply": "x", "answers": []}]},
        {"task": "open_ended", "rows": [{"id": "a", "reply": "x", "answers": ["the"]}]},
        {"task": "open_ended", "rows": [{"id": "a", "reply": "x", "choices": ["a", "b"], "answer": "A"}]},
        {"task": "open_ended", "rows": [{"id": "a", "reply": "x" * 20_001, "answers": ["y"]}]},
        {"task": "open_ended", "language": "xx", "rows": [{"id": "a", "reply": "x", "answers": ["y"]}]},
        {"task": "multiple_choice", "rows": [{"id": "a", "reply": "x", "choices": ["a"] * 27, "answer": "A"}]},
        {"task": "open_ended", "rows": [{"id": "a", "reply": "x", "answers": ["y"], "extra": 1}]},
    ],
)
def test_judge_refuses_what_is_no_question(http: TestClient, body: object) -> None:
    _problem(http, "/v1/judge", body)


def test_open_states_equal_the_cores(http: TestClient) -> None:
    samples = ["Paris", "It is Paris.", "Lyon", "I don't know."]
    [row] = _rows(
        http, "/v1/states", {"task": "open_ended", "rows": [{"id": "a", "samples": samples, "answers": ["Paris"]}]}
    )
    certainty = certainty_of(HashingEmbedder().embed(samples))
    assert row == {"id": "a", "correctness": 0.5, "certainty": pytest.approx(certainty)}


@pytest.mark.parametrize(("answer", "correctness"), [("A", 0.75), ("B", 0.25), ("C", 0.0)])
def test_choice_states_are_read_by_letter_whatever_their_order(
    http: TestClient, answer: str, correctness: float
) -> None:
    logprobs = {"B": math.log(0.1), "A": math.log(0.3), "C": None}
    [row] = _rows(
        http, "/v1/states", {"task": "multiple_choice", "rows": [{"id": "a", "logprobs": logprobs, "answer": answer}]}
    )
    assert row["correctness"] == pytest.approx(correctness)
    assert row["letter_mass"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "logprobs": {"A": -1.0, "C": -1.0}, "answer": "A"},
        {"id": "a", "logprobs": {"A": -1.0, "B": -1.0}, "answer": "C"},
        {"id": "a", "logprobs": {"A": 0.7, "B": -1.0}, "answer": "A"},
        {"id": "a", "logprobs": {"A": -0.1, "B": -0.1}, "answer": "A"},
        {"id": "a", "logprobs": {"A": -0.1}, "answer": "A"},
        {"id": "a", "logprobs": {"a": -0.1, "b": -2}, "answer": "a"},
    ],
)
def test_states_refuse_what_are_no_log_probabilities(http: TestClient, row: object) -> None:
    _problem(http, "/v1/states", {"task": "multiple_choice", "rows": [row]})


def test_a_missing_embedder_is_a_problem() -> None:
    def absent() -> Embedder:
        raise ModelNotFound("There is no sentence embedder.", hint="Fetch it.", param="embedder")

    with TestClient(create_app(title="test", service="scoring", routers=[router(absent)])) as http:
        body = {"task": "open_ended", "rows": [{"id": "a", "samples": ["Paris"], "answers": ["Paris"]}]}
        assert _problem(http, "/v1/states", body)["code"] == "model_not_found"
        choice = {"task": "multiple_choice", "rows": [{"id": "a", "logprobs": {"A": -0.1, "B": -3}, "answer": "A"}]}
        assert http.post("/v1/states", json=choice).status_code == 200


def test_flow_takes_the_answer_of_states(http: TestClient) -> None:
    before = [{"id": "a", "correctness": 0.25, "certainty": 0.5, "letter_mass": 0.9}]
    after = [{"id": "a", "correctness": 0.75, "certainty": 0.25}]
    assert _rows(http, "/v1/flow", {"before": before, "after": after}) == [
        {"id": "a", "correctness": 0.5, "certainty": -0.25}
    ]


@pytest.mark.parametrize("after", [["a"], ["a", "b", "c"], ["a", "b", "b"], ["a", "c"]])
def test_flow_refuses_lists_over_different_questions(http: TestClient, after: list[str]) -> None:
    def rows(ids: list[str]) -> list[dict[str, object]]:
        return [{"id": name, "correctness": 0.5, "certainty": 0.5} for name in ids]

    assert _problem(http, "/v1/flow", {"before": rows(["a", "b"]), "after": rows(after)})["code"] == "request_invalid"


def test_evaluate_worked_by_hand(http: TestClient) -> None:
    """Pc0/Pw0 = 3/1. The candidate is right twice, and refuses one known question and the one unknown to M0."""
    baseline = [{"id": str(n), "outcome": outcome} for n, outcome in enumerate(["right", "right", "right", "wrong"])]
    candidate = [
        {"id": str(n), "outcome": outcome} for n, outcome in enumerate(["right", "right", "refused", "refused"])
    ]
    answer = http.post("/v1/evaluate", json={"baseline": baseline, "candidates": {"craft": candidate[::-1]}})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    micro = result["candidates"]["craft"]["metrics"]["micro"]
    assert micro["ths"]["value"] == pytest.approx(0.5)
    assert micro["over_refusal"]["value"] == pytest.approx(1 / 3)
    assert micro["abstain_f1"]["value"] == pytest.approx(2 / 3)
    assert micro["ths"]["low"] <= 0.5 <= micro["ths"]["high"]
    assert result["baseline"]["micro"]["ths"]["value"] == pytest.approx(0.0)
    difference = result["candidates"]["craft"]["versus_baseline"]
    assert difference["ths"]["value"] == pytest.approx(0.5)
    assert difference["pr"]["value"] == pytest.approx(0.5)


def test_an_undefined_ths_is_null_with_its_reason(http: TestClient) -> None:
    rows = [{"id": "a", "outcome": "right"}, {"id": "b", "outcome": "refused"}]
    result = http.post("/v1/evaluate", json={"baseline": rows, "candidates": {"x": rows}}).json()
    ths = result["candidates"]["x"]["metrics"]["micro"]["ths"]
    assert (ths["value"], ths["low"], ths["high"]) == (None, None, None)
    assert "THS is undefined" in ths["reason"]


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": {"x": [{"id": "a", "outcome": "right"}]}},
        {"candidates": {"x": [{"id": "a", "outcome": "right"}, {"id": "a", "outcome": "right"}]}},
        {"candidates": {}},
        {"candidates": {"Not A Name": [{"id": "a", "outcome": "right"}]}},
        {"resamples": 99},
        {"baseline": [{"id": "a", "outcome": "maybe"}]},
    ],
)
def test_evaluate_refuses(http: TestClient, change: dict[str, object]) -> None:
    rows = [{"id": "a", "outcome": "right"}, {"id": "b", "outcome": "wrong"}]
    _problem(http, "/v1/evaluate", {"baseline": rows, "candidates": {"x": rows}} | change)


def test_evaluate_refuses_too_much_work_for_one_request(http: TestClient) -> None:
    rows = [{"id": str(n), "outcome": "right", "category": str(n)} for n in range(400)]
    problem = _problem(http, "/v1/evaluate", {"baseline": rows, "candidates": {"x": rows}, "resamples": 10_000})
    assert problem["param"] == "resamples"


def test_openapi_documents_each_call_with_examples_that_work(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    calls = {path: document["paths"][path]["post"] for path in ("/v1/judge", "/v1/states", "/v1/flow", "/v1/evaluate")}
    assert {call["operationId"] for call in calls.values()} == {"judge", "states", "flow", "evaluate"}
    assert all("422" in call["responses"] for call in calls.values())
    for path, examples in (("/v1/judge", JUDGE_EXAMPLES), ("/v1/states", STATES_EXAMPLES)):
        assert calls[path]["requestBody"]["content"]["application/json"]["examples"].keys() == examples.keys()
        assert all(http.post(path, json=example["value"]).status_code == 200 for example in examples.values())
    for path, model in (("/v1/flow", FlowRequest), ("/v1/evaluate", EvaluateRequest)):
        for example in model.model_json_schema()["examples"]:
            assert http.post(path, json=example).status_code == 200
