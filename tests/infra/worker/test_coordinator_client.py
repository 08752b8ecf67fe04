"""The coordinator's responses become results and errors for the worker."""

import json
from collections.abc import Callable

import httpx
import pytest
from pydantic import SecretStr

from craft.contracts.problems import Problem, StageError
from craft.contracts.stages.claims import Claim, ClaimedStage, Fail, Release, Renew, Renewed
from craft.contracts.stages.kinds import Service
from craft.contracts.stages.parameters import IngestParameters
from craft.core.questions import Task
from craft.errors import Conflict, CraftError, Internal, LeaseLost, NotFound, RequestInvalid, TooFewKnown, Unavailable
from craft.infra.worker.coordinator_client import CoordinatorClient

Answer = Callable[[httpx.Request], httpx.Response]
CLAIM = Claim(owner="me", service=Service.SCORING)


def client(answer: Answer) -> CoordinatorClient:
    return CoordinatorClient("http://coordinator", SecretStr("sesame"), transport=httpx.MockTransport(answer))


def saying(status: int, error: CraftError) -> Answer:
    body = Problem.of(error).model_copy(update={"status": status}).model_dump(mode="json")
    return lambda request: httpx.Response(status, json=body)  # noqa: ARG005 - a fixed answer


def test_a_call_carries_the_token_and_the_body() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"stop": True})

    with client(answer) as coordinator:
        assert coordinator.renew("stg_1", Renew(fence=3)) == Renewed(stop=True)
    assert seen[0].headers["authorization"] == "Bearer sesame"
    assert seen[0].url.path == "/internal/stages/stg_1/renew"
    assert json.loads(seen[0].content)["fence"] == 3


def test_an_id_never_leaves_its_place_in_the_path() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={})

    with client(answer) as coordinator:
        coordinator.release("../../admin?x=1", Release(fence=1))
    assert seen == [b"/internal/stages/..%2F..%2Fadmin%3Fx%3D1/release"]


@pytest.mark.parametrize("error", [NotFound("no"), Conflict("taken")])
def test_a_stage_that_is_not_to_be_had_is_none(error: CraftError) -> None:
    with client(saying(error.status, error)) as coordinator:
        assert coordinator.claim("stg_1", CLAIM) is None


def test_an_old_fence_is_lease_lost() -> None:
    with client(saying(409, LeaseLost("old"))) as coordinator, pytest.raises(LeaseLost):
        coordinator.renew("stg_1", Renew(fence=1))


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (500, Internal("bug"), Unavailable),
        (503, Unavailable("away"), Unavailable),
        (429, RequestInvalid("slow down"), Unavailable),
        (401, RequestInvalid("who"), Internal),
        (422, RequestInvalid("what"), RequestInvalid),
        (422, TooFewKnown("three", hint="more"), TooFewKnown),
    ],
)
def test_each_problem_becomes_its_error(status: int, error: CraftError, expected: type[CraftError]) -> None:
    fail = Fail(fence=1, error=StageError.of(error))
    with client(saying(status, error)) as coordinator, pytest.raises(expected) as caught:
        coordinator.fail("stg_1", fail)
    if expected is TooFewKnown:
        assert caught.value.hint == "more"


@pytest.mark.parametrize("body", [b"<html>gateway</html>", b"", b"{}"])
def test_an_answer_that_is_no_problem_document_is_unavailable(body: bytes) -> None:
    with client(lambda request: httpx.Response(404, content=body)) as coordinator, pytest.raises(Unavailable):  # noqa: ARG005
        coordinator.claim("stg_1", CLAIM)


def test_an_answer_that_is_no_claim_is_unavailable() -> None:
    with client(lambda request: httpx.Response(200, json={"x": 1})) as coordinator, pytest.raises(Unavailable):  # noqa: ARG005
        coordinator.claim("stg_1", CLAIM)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("cut")])
def test_a_broken_connection_is_unavailable(error: httpx.HTTPError) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    with client(answer) as coordinator, pytest.raises(Unavailable):
        coordinator.renew("stg_1", Renew(fence=1))


CLAIMED = ClaimedStage(
    stage_id="stg_1",
    job_id="cjob_1",
    name="ingest",
    attempt=1,
    fence=1,
    key="a" * 64,
    parameters=IngestParameters(task=Task.OPEN_ENDED, held_out_fraction=0.1, seed=0),
    inputs={},
    lease_seconds=90.0,
    beat_seconds=15.0,
    timeout_seconds=60.0,
)


def test_a_worker_understands_a_coordinator_that_says_more_than_it_knows() -> None:
    newer = {"tomorrow": 1}
    said = {"/claim": CLAIMED.model_dump(mode="json") | newer, "/renew": {"stop": True} | newer}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=said[request.url.path[-6:]])

    with client(answer) as coordinator:
        assert coordinator.claim("stg_1", CLAIM) == CLAIMED
        assert coordinator.renew("stg_1", Renew(fence=1)) == Renewed(stop=True)


def test_a_stage_with_a_parameter_that_a_worker_does_not_know_is_not_for_it() -> None:
    # Its artifact's key holds that parameter: without it something else would be computed under the key.
    newer = CLAIMED.model_dump(mode="json")
    newer["parameters"]["tomorrow"] = 1
    with client(lambda request: httpx.Response(200, json=newer)) as coordinator, pytest.raises(Unavailable):  # noqa: ARG005
        coordinator.claim("stg_1", CLAIM)
