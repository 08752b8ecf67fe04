"""The client on a bad connection: it repeats idempotent requests, and no others."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.services.cli.views import JOB_ID, as_sse, event, job_view

from craft.contracts.problems import Problem
from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import JobStatus
from craft.errors import RateLimited, Unavailable
from craft_client import ApiError, AsyncClient, Client, ClientError, JobFailed, ServerUnreachable, UnexpectedAnswer
from craft_client.aio.transport import AsyncTransport
from craft_client.retrying import pause_seconds
from craft_client.sync.transport import Transport

Answer = httpx.Response | Exception
LIMITED = Problem.of(RateLimited("Too many requests.")).model_dump_json().encode()
AWAY = Problem.of(Unavailable("down")).model_dump_json().encode()


def client(*answers: Answer, sent: list[httpx.Request], pauses: list[float] | None = None) -> Client:
    left = iter(answers)

    def server(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sleep = (pauses if pauses is not None else []).append
    return Client(
        transport=Transport("http://test", api_key="k", team="t", http=httpx.MockTransport(server), sleep=sleep)
    )


def good(model: JobView) -> httpx.Response:
    return httpx.Response(200, content=model.model_dump_json().encode())


def key_view() -> httpx.Response:
    now = "2026-01-01T00:00:00Z"
    view = {"id": "ckey_1", "team": "t", "name": "n", "role": "editor", "scopes": [], "created_by": "local"}
    ends = {"created_at": now, "expires_at": None, "revoked_at": None, "last_used_at": None}
    return httpx.Response(201, json=view | ends | {"key": "craft_sk_x"})


def test_every_request_has_the_key_and_the_team() -> None:
    sent: list[httpx.Request] = []
    with client(good(job_view(JobStatus.QUEUED)), sent=sent) as api:
        api.jobs.get(JOB_ID)
    assert (sent[0].headers["Authorization"], sent[0].headers["Craft-Team"]) == ("Bearer k", "t")


@pytest.mark.parametrize("error", [httpx.ReadError("lost"), httpx.ReadTimeout("slow"), httpx.WriteError("cut")])
def test_a_key_is_not_made_twice_where_the_answer_may_be_lost(error: Exception) -> None:
    sent: list[httpx.Request] = []
    with client(error, sent=sent) as api, pytest.raises(ServerUnreachable):
        api.keys.create("n")
    assert len(sent) == 1


def test_a_key_is_not_made_twice_where_a_proxy_answered() -> None:
    sent: list[httpx.Request] = []
    with client(httpx.Response(502), sent=sent) as api, pytest.raises(ApiError):
        api.keys.create("n")
    assert len(sent) == 1


def test_a_key_is_requested_again_where_no_server_saw_the_request() -> None:
    sent: list[httpx.Request] = []
    pauses: list[float] = []
    limited = httpx.Response(429, content=LIMITED, headers={"Retry-After": "3"})
    with client(httpx.ConnectError("refused"), limited, key_view(), sent=sent, pauses=pauses) as api:
        assert api.keys.create("n").key == "craft_sk_x"
    assert pauses == [0.5, 3.0]


def test_a_final_429_is_not_waited_for() -> None:
    sent: list[httpx.Request] = []
    final = Problem.of(RateLimited("Used up.")).model_copy(update={"retryable": False})
    problem = final.model_dump_json().encode()
    with (
        client(httpx.Response(429, content=problem), sent=sent) as api,
        pytest.raises(ApiError, match="Used up"),
    ):
        api.jobs.cancel(JOB_ID)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 2026 00:00:09 GMT", 9.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", 2.0),
        ("-1", 2.0),
        ("61", None),
        ("99999999999999999999", None),
    ],
)
def test_retry_after_sets_the_pause(header: str, pause: float | None) -> None:
    answer = httpx.Response(503, content=AWAY, headers={"Retry-After": header})
    assert pause_seconds(answer, 2, idempotent=True, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)) == pause


def test_waiting_outlasts_a_server_that_restarts() -> None:
    sent: list[httpx.Request] = []
    away = [httpx.ConnectError("refused")] * 12
    running, done = good(job_view(JobStatus.RUNNING)), good(job_view(JobStatus.SUCCEEDED))
    with client(running, running, *away, done, sent=sent) as api:
        assert api.jobs.open(JOB_ID).wait().status == "succeeded"


def test_waiting_ends_when_its_time_is_up() -> None:
    with client(*[good(job_view(JobStatus.RUNNING))] * 2, sent=[]) as api:
        handle = api.jobs.open(JOB_ID)
        with pytest.raises(TimeoutError, match="running"):
            handle.wait(timeout_seconds=0)


def test_a_stream_without_any_response_ends_soon() -> None:
    sent: list[httpx.Request] = []
    with client(*[httpx.ConnectError("refused")] * 5, sent=sent) as api, pytest.raises(ServerUnreachable):
        list(api.jobs.stream(JOB_ID))
    assert len(sent) == 5


def test_a_stream_continues_after_cuts_within_an_event_and_busy_servers() -> None:
    first, second, last = event(1, "job.created"), event(2, "job.started"), event(3, "job.succeeded")
    whole = as_sse(first, second)
    answers = (
        httpx.Response(200, content=whole[: len(whole) - 40]),
        httpx.ReadError("cut"),
        httpx.Response(503, content=AWAY),
        httpx.Response(200, content=as_sse(first, second, last)),
    )
    sent: list[httpx.Request] = []
    with client(*answers, sent=sent) as api:
        assert [streamed.seq for streamed in api.jobs.stream(JOB_ID)] == [1, 2, 3]
    assert [request.headers["Last-Event-ID"] for request in sent] == ["0", "1", "1", "1"]


def test_a_stream_of_an_unknown_job_ends_at_once() -> None:
    sent: list[httpx.Request] = []
    with client(httpx.Response(404), sent=sent) as api, pytest.raises(ApiError):
        list(api.jobs.stream(JOB_ID))
    assert len(sent) == 1


def test_a_newer_server_may_send_more_fields() -> None:
    view = json.loads(job_view(JobStatus.SUCCEEDED).model_dump_json())
    view |= {"news": 1}
    view["progress"] |= {"more": 2}
    with client(httpx.Response(200, json=view), httpx.Response(200, text="<html>"), sent=[]) as api:
        assert api.jobs.get(JOB_ID).status == "succeeded"
        with pytest.raises(UnexpectedAnswer):
            api.jobs.get(JOB_ID)


def test_an_id_leads_to_no_other_path() -> None:
    sent: list[httpx.Request] = []
    with client(httpx.Response(404), sent=sent) as api:
        with pytest.raises(ApiError):
            api.jobs.cancel("a/../../teams?x#")
        for bad in ("", "..", "."):
            with pytest.raises(ClientError):
                api.jobs.get(bad)
    assert sent[0].url.raw_path == b"/craft/jobs/a%2F..%2F..%2Fteams%3Fx%23/cancel"


def test_a_broken_download_starts_again_and_leaves_no_half(tmp_path: Path) -> None:
    sent: list[httpx.Request] = []
    with client(httpx.ReadError("cut"), httpx.Response(200, content=b"whole"), sent=sent) as api:
        assert api.jobs.adapter(JOB_ID, tmp_path / "a.tar.gz").read_bytes() == b"whole"
    with client(*[httpx.ReadError("cut")] * 5, sent=sent) as api, pytest.raises(ServerUnreachable):
        api.jobs.adapter(JOB_ID, tmp_path / "b.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_the_asynchronous_client_repeats_waits_and_follows_like_the_other() -> None:
    queued, failed = job_view(JobStatus.QUEUED), job_view(JobStatus.FAILED)
    answers = [
        httpx.Response(503, content=AWAY, headers={"Retry-After": "2"}),
        good(queued),
        httpx.Response(200, content=as_sse(event(1, "job.created"), event(2, "job.failed"))),
        good(failed),
    ]
    pauses: list[float] = []

    async def server(request: httpx.Request) -> httpx.Response:
        return answers.pop(0)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def go() -> list[int]:
        transport = AsyncTransport("http://test", http=httpx.MockTransport(server), sleep=sleep)
        async with AsyncClient(transport=transport) as api:
            handle = await api.jobs.create({})
            seen = [streamed.seq async for streamed in handle.stream()]
            with pytest.raises(JobFailed):
                await handle.wait()
        return seen

    assert asyncio.run(go()) == [1, 2]
    assert (pauses, answers) == ([2.0], [])


def test_pages_are_followed_to_the_end() -> None:
    views = [json.loads(job_view(JobStatus.QUEUED).model_dump_json()) | {"id": f"cjob_{n}"} for n in range(3)]
    pages: list[Answer] = [
        httpx.Response(200, json={"data": views[:2], "has_more": True, "last_id": "cjob_1"}),
        httpx.Response(200, json={"data": views[2:], "has_more": False, "last_id": "cjob_2"}),
    ]
    sent: list[httpx.Request] = []
    with client(*pages, sent=sent) as api:
        ids = [job.id for job in api.jobs.iterate(labels={"a": "b"}, status=["queued", "running"])]
    assert ids == ["cjob_0", "cjob_1", "cjob_2"]
    assert sent[1].url.params["after"] == "cjob_1"
    assert sent[1].url.params.get_list("status") == ["queued", "running"]
