"""Calls refuse query parameters that they do not have; they do not ignore them."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import UNKNOWN_DATASET, UNKNOWN_JOB, Rig, open_rig

PLACES = {"job_id": UNKNOWN_JOB, "dataset_id": UNKNOWN_DATASET, "team": "default"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as opened:
        yield opened


def operations(rig: Rig, root: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, address and description of parameter operation below a root."""
    for path, methods in rig.app.openapi()["paths"].items():
        if path.startswith(root):
            for method, operation in methods.items():
                address = path.format_map({**dict.fromkeys(_parts(path), "x"), **PLACES})
                yield method.upper(), address, operation


def _parts(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_no_call_below_craft_takes_what_it_does_not_document(rig: Rig, prefix: str) -> None:
    calls = list(operations(rig, "/craft/"))
    assert len(calls) > 50
    for method, address, _ in calls:
        answer = rig.request(method, f"{prefix}{address}?colour=red")
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid"), (method, address)
        assert answer.json()["param"] == "colour"


def test_every_documented_parameter_is_known(rig: Rig) -> None:
    for method, address, operation in operations(rig, "/craft/"):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                answer = rig.request(method, address, params={parameter["name"]: "%"})
                assert "There is no query parameter" not in answer.text, (method, address, parameter["name"])
        assert "422" in operation["responses"]


def test_the_parameters_that_exist_are_named_the_likeliest_first(rig: Rig) -> None:
    problem = rig.get("/craft/jobs?staus=running").json()
    assert problem["param"] == "staus"
    assert problem["hint"] == (
        "Did you mean `status`? This call takes `status`, `limit`, `after`, `created_after`, `label.NAME`."
    )
    assert rig.get("/craft/jobs/x/cancel?a=b").status_code == 405
    assert rig.post("/craft/jobs/x/cancel?a=b").json()["hint"] == "This call takes none."
    overlap = rig.get(f"/craft/datasets/{UNKNOWN_DATASET}/overlap?width=x")
    assert overlap.json()["hint"] == "Did you mean `with`? This call takes `with`."


@pytest.mark.parametrize("query", ["label.ticket=x&label.team=y", "status=running&status=queued", "limit=3", ""])
def test_what_a_call_takes_is_taken(rig: Rig, query: str) -> None:
    assert rig.get(f"/craft/jobs?{query}").status_code == 200


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800".encode("utf-8", "surrogatepass"), "", "labels.a", "Status"])
def test_any_name_is_answered(rig: Rig, name: str | bytes) -> None:
    answer = rig.get("/craft/jobs", params={name: "1"})
    assert answer.status_code == 422
    assert len(answer.json()["param"]) <= 100


def test_no_parameter_takes_nul(rig: Rig) -> None:
    for method, address, operation in operations(rig, "/"):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                answer = rig.request(method, address, params={parameter["name"]: "a\0"})
                assert answer.status_code in {400, 404, 422}, (method, address, parameter["name"], answer.text)
    assert rig.get("/v1/fine_tuning/jobs?metadata[a]=%00").status_code == 400
    assert rig.get("/v1/models/a%00").status_code == 404


def test_openais_calls_pass_over_what_they_do_not_know(rig: Rig) -> None:
    assert rig.get("/v1/models?beta=true").status_code == 200
