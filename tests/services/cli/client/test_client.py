"""The Python client against a function as its server."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.services.cli.views import ADAPTER_ID, JOB_ID, as_sse, deployment, event, job_view

from craft.contracts.problems import Problem
from craft.contracts.spec.jobs import JobStatus
from craft.core.questions import Task
from craft.errors import DatasetInvalid, ErrorDetail, Unavailable
from craft_client import ApiError, Client, JobFailed, ServerUnreachable
from craft_client.sync.transport import Transport

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, *, pauses: list[float] | None = None) -> Client:
    sleep = (pauses if pauses is not None else []).append
    return Client(transport=Transport("http://test", http=httpx.MockTransport(handler), sleep=sleep))


def body(model: object) -> bytes:
    return model.model_dump_json().encode()  # type: ignore[attr-defined, no-any-return]


def test_a_503_is_sent_again_with_the_same_idempotency_key() -> None:
    keys: list[str] = []
    pauses: list[float] = []

    def server(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            return httpx.Response(503, headers={"Retry-After": "2"}, content=body(Problem.of(Unavailable("down"))))
        if len(keys) == 2:
            raise httpx.ReadError("the answer was lost")
        return httpx.Response(202, content=body(job_view(JobStatus.QUEUED)))

    with client(server, pauses=pauses) as api:
        assert api.jobs.create({"base_model": {"id": "tiny"}, "dataset": {"rows": []}}).id == JOB_ID
    assert len(set(keys)) == 1
    assert pauses == [2.0, 1.0]


def test_a_refusal_is_raised_with_rows_and_hint_and_not_sent_again() -> None:
    calls = []
    problem = Problem.of(
        DatasetInvalid("1 of 2 rows cannot be used.", hint="Mend it.", details=[ErrorDetail("is empty", "answers", 2)])
    )

    def server(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(422, content=body(problem))

    with client(server) as api, pytest.raises(ApiError) as caught:
        api.datasets.create([{}], task=Task.OPEN_ENDED)
    assert len(calls) == 1
    assert "line 2: answers: is empty" in str(caught.value)
    assert "Hint: Mend it." in str(caught.value)


def test_an_answer_that_is_no_problem_document_is_still_an_api_error() -> None:
    with client(lambda _: httpx.Response(404, text="<html>")) as api, pytest.raises(ApiError, match="answered 404"):
        api.jobs.get(JOB_ID)


def test_without_a_server_the_retries_end_in_an_error() -> None:
    pauses: list[float] = []

    def server(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client(server, pauses=pauses) as api:
        with pytest.raises(ServerUnreachable, match="refused"):
            api.jobs.get(JOB_ID)
        assert api.ready() is False
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]


def test_wait_polls_to_the_end_and_raises_where_the_job_failed() -> None:
    views = [job_view(JobStatus.QUEUED), job_view(JobStatus.RUNNING), job_view(JobStatus.FAILED)]

    with client(lambda _: httpx.Response(200, content=body(views.pop(0)))) as api:
        handle = api.jobs.open(JOB_ID)
        with pytest.raises(JobFailed, match=r"tuning_set:craft.*too_few_known.*\n.*lower tau"):
            handle.wait()
    assert views == []


def test_a_deployment_is_requested_by_strategy_and_gives_a_model_name() -> None:
    bodies: list[object] = []

    def server(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=body(job_view(JobStatus.SUCCEEDED)))
        assert request.url.path == f"/craft/jobs/{JOB_ID}/deploy"
        bodies.append(json.loads(request.content))
        return httpx.Response(201 if len(bodies) == 1 else 200, content=body(deployment()))

    with client(server) as api:
        assert api.jobs.deploy(JOB_ID, strategy="craft").model == ADAPTER_ID
        assert api.jobs.open(JOB_ID).deploy().model == ADAPTER_ID
    assert bodies == [{"strategy": "craft"}, {"strategy": None}]


def test_a_broken_stream_continues_after_the_last_event() -> None:
    positions: list[str] = []
    events = [event(1, "job.created"), event(2, "job.started"), event(3, "job.succeeded")]

    def server(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            done = JobStatus.SUCCEEDED if len(positions) == 2 else JobStatus.RUNNING
            return httpx.Response(200, content=body(job_view(done)))
        positions.append(request.url.params["after"])
        return httpx.Response(200, content=as_sse(*(events[:2] if len(positions) == 1 else events[2:])))

    with client(server) as api:
        assert [streamed.seq for streamed in api.jobs.stream(JOB_ID)][:3] == [1, 2, 3]
    assert positions[:2] == ["0", "2"]


def test_a_download_is_whole_or_absent(tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        return httpx.Response(409, content=body(Problem.of(Unavailable("not finished"))))

    target = tmp_path / "folder" / "adapter.tar.gz"
    with client(lambda _: httpx.Response(200, content=b"bytes")) as api:
        api.jobs.adapter(JOB_ID, target)
    assert target.read_bytes() == b"bytes"
    with client(broken) as api, pytest.raises(ApiError):
        api.jobs.adapter(JOB_ID, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_an_upload_is_rewound_for_its_second_attempt(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    path = tmp_path / "facts.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n')

    def server(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(503, content=body(Problem.of(Unavailable("down"))))

    with client(server) as api, pytest.raises(ApiError):
        api.datasets.upload(path, task=Task.OPEN_ENDED)
    assert len(bodies) == 5
    assert all(b'"answer": "a"' in content for content in bodies)
