"""The live stream: every event once and in order, whatever the feed drops, repeats or misses."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, open_rig

from craft.contracts.events import EventType
from craft.contracts.public.jobs import EventView
from craft_gateway.job_views.event_stream import PAGE, EventFeed, stream

STREAM = {"Accept": "text/event-stream"}
JOB = UNKNOWN_JOB


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


class Table:
    """An event table in memory that counts its readers."""

    def __init__(self, count: int = 0, *, ended: bool = False) -> None:
        self.rows: list[EventView] = []
        self.reads = 0
        self.polls = 0
        self.down = False
        for _ in range(count - ended):
            self.add(EventType.JOB_PROGRESS)
        if ended:
            self.add(EventType.JOB_SUCCEEDED)

    def add(self, kind: EventType) -> None:
        seq = len(self.rows) + 1
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        self.rows.append(EventView(job_id=JOB, seq=seq, type=kind, data={"line": "a\nb"}, created_at=moment))

    def events(self, job_id: str, *, after: int, limit: int) -> Sequence[EventView]:
        self.reads += 1
        return self.rows[after : after + limit] if job_id == JOB else []

    def newer(self, heads: Mapping[str, int]) -> Mapping[str, Sequence[EventView]]:
        self.polls += 1
        if self.down:
            raise OSError("the database is away")
        return {job_id: self.rows[head:] for job_id, head in heads.items()}

    def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        return dict.fromkeys(job_ids, len(self.rows))


def numbers(lines: bytes) -> list[int]:
    """The ids in a piece of stream."""
    return [int(line[4:]) for line in lines.decode().splitlines() if line.startswith("id: ")]


async def read_numbers(chunks: AsyncIterator[bytes]) -> list[int]:
    """The ids of a whole stream."""
    return [number async for chunk in chunks for number in numbers(chunk)]


def followed(table: Table, act: Callable[[EventFeed], Awaitable[None]], *, after: int = 0) -> list[int]:
    """What one client sees from `after` on, while something happens."""

    async def go() -> list[int]:
        feed = EventFeed(table, poll_seconds=0.001)
        async with feed.running():
            reading = asyncio.create_task(read_numbers(stream(feed, JOB, after=after)))
            await act(feed)
            seen = await asyncio.wait_for(reading, 10)
            assert feed.watched == 0
            return seen

    return asyncio.run(asyncio.wait_for(go(), 30))


async def nothing(feed: EventFeed) -> None:
    """Let the stream be."""


def test_a_finished_job_replays_and_closes() -> None:
    assert followed(Table(5, ended=True), nothing) == [1, 2, 3, 4, 5]


def test_a_stream_goes_on_after_the_last_event_seen() -> None:
    assert followed(Table(5, ended=True), nothing, after=3) == [4, 5]


def test_a_long_history_is_replayed_in_pages() -> None:
    table = Table(2 * PAGE + 1, ended=True)
    assert followed(table, nothing) == list(range(1, 2 * PAGE + 2))
    assert table.reads == 3


def test_a_history_of_exactly_one_page_is_no_end() -> None:
    assert len(followed(Table(PAGE, ended=True), nothing)) == PAGE


def test_new_events_follow_the_replay_until_the_terminal_one() -> None:
    table = Table(2)

    async def act(feed: EventFeed) -> None:
        for _ in range(50):
            table.add(EventType.JOB_PROGRESS)
            await asyncio.sleep(0)
        table.add(EventType.JOB_FAILED)

    assert followed(table, act) == list(range(1, 54))


def test_events_that_come_faster_than_a_client_reads_are_read_from_the_table() -> None:
    table = Table(1)

    async def act(feed: EventFeed) -> None:
        while not feed.watched:
            await asyncio.sleep(0)
        for _ in range(5000):
            table.add(EventType.JOB_PROGRESS)
        table.add(EventType.JOB_CANCELLED)

    assert followed(table, act) == list(range(1, 5003))


def test_a_database_that_is_away_for_a_while_only_delays() -> None:
    table = Table(1)

    async def act(feed: EventFeed) -> None:
        # It reads the table when it comes, and once more when the feed has found the job's head.
        while table.reads < 2 or not table.polls:
            await asyncio.sleep(0)
        table.down = True
        table.add(EventType.JOB_SUCCEEDED)
        before = table.polls
        while table.polls < before + 3:
            await asyncio.sleep(0)
        table.down = False

    assert followed(table, act) == [1, 2]


def test_an_idle_stream_pings() -> None:
    async def go() -> list[bytes]:
        table = Table(1)
        feed = EventFeed(table)  # nobody polls, so nothing comes
        chunks = stream(feed, JOB, after=0, ping_seconds=0.001)
        seen = [await anext(chunks) for _ in range(4)]
        await chunks.aclose()
        assert feed.watched == 0
        return seen

    assert asyncio.run(go())[2:] == [b": ping\n\n", b": ping\n\n"]


def test_who_is_no_longer_admitted_in_the_middle_of_a_long_history_reads_no_further_page() -> None:
    table, answers = Table(3 * PAGE, ended=True), [True, True, False]

    async def admitted() -> bool:
        return answers.pop(0)

    async def go() -> list[int]:
        feed = EventFeed(table, check_seconds=0.0)
        return await read_numbers(stream(feed, JOB, after=0, admitted=admitted))

    assert asyncio.run(asyncio.wait_for(go(), 10)) == list(range(1, 2 * PAGE + 1))


def test_asking_whether_a_silent_streams_reader_may_go_on_reads_no_table() -> None:
    table, asked = Table(1), 0

    async def admitted() -> bool:
        nonlocal asked
        asked += 1
        return asked < 20

    async def go() -> list[int]:
        feed = EventFeed(table, check_seconds=0.0005)
        return await read_numbers(stream(feed, JOB, after=0, admitted=admitted))

    assert asyncio.run(asyncio.wait_for(go(), 10)) == [1]
    assert table.reads == 1


def test_an_event_takes_one_line_of_data() -> None:
    async def go() -> bytes:
        table = Table(1, ended=True)
        return b"".join([chunk async for chunk in stream(EventFeed(table), JOB, after=0)])

    retry, event = asyncio.run(go()).decode().strip().split("\n\n")
    assert retry == "retry: 2000"
    number, kind, data = event.split("\n")
    assert (number, kind) == ("id: 1", "event: job.succeeded")
    assert json.loads(data.removeprefix("data: "))["data"] == {"line": "a\nb"}


def test_a_hundred_clients_cost_one_poll() -> None:
    table = Table(1)

    async def go() -> list[list[int]]:
        feed = EventFeed(table, poll_seconds=0.001)
        async with feed.running():
            clients = [asyncio.create_task(read_numbers(stream(feed, JOB, after=0))) for _ in range(100)]
            # Each reads the table when it comes, and once more when the feed has found the job's head.
            while table.reads < 200:
                await asyncio.sleep(0)
            for _ in range(20):
                table.add(EventType.JOB_PROGRESS)
                seen = table.polls
                while table.polls < seen + 2:
                    await asyncio.sleep(0)
            table.add(EventType.JOB_SUCCEEDED)
            return await asyncio.wait_for(asyncio.gather(*clients), 20)

    assert asyncio.run(asyncio.wait_for(go(), 30)) == [list(range(1, 23))] * 100
    assert table.reads < 400


def test_a_server_that_stops_ends_its_streams() -> None:
    async def act(feed: EventFeed) -> None:
        while not feed.watched:
            await asyncio.sleep(0)
        feed.close()

    assert followed(Table(3), act) == [1, 2, 3]


def test_a_server_that_stops_ends_long_polls(rig: Rig) -> None:
    job_id = rig.submit()

    async def wait(client: httpx.AsyncClient) -> httpx.Response:
        async with rig.feed.running():
            waiting = asyncio.create_task(client.get(f"/craft/jobs/{job_id}?wait=60"))
            while not rig.feed.watched:
                await asyncio.sleep(0)
            rig.feed.close()
            return await asyncio.wait_for(waiting, 10)

    assert rig.run(wait).json()["status"] == "queued"


def events_of(rig: Rig, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rig.get(f"/craft/jobs/{job_id}/events?limit=500").json()["data"]
    return found


def test_events_come_in_pages_without_gaps(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    seen: list[int] = []
    page = rig.get(f"/craft/jobs/{job_id}/events?limit=7").json()
    while True:
        seen += [event["seq"] for event in page["data"]]
        if not page["has_more"]:
            break
        page = rig.get(f"/craft/jobs/{job_id}/events?limit=7&after={page['last_id']}").json()
    assert seen == list(range(1, len(seen) + 1))
    assert events_of(rig, job_id)[0]["type"] == "job.created"
    assert events_of(rig, job_id)[-1]["type"] == "job.succeeded"


def test_the_stream_and_the_pages_tell_the_same(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    answer = rig.get(f"/craft/jobs/{job_id}/events", headers=STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [json.loads(line) for line in data] == events_of(rig, job_id)


def test_a_broken_stream_goes_on_where_it_was(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    last = len(events_of(rig, job_id))
    path = f"/craft/jobs/{job_id}/events"
    resumed = rig.get(path, headers={**STREAM, "Last-Event-ID": "4"})
    assert numbers(resumed.content) == list(range(5, last + 1))
    assert numbers(rig.get(f"{path}?after={last - 1}", headers=STREAM).content) == [last]
    assert rig.get(path, headers={**STREAM, "Last-Event-ID": str(last)}).status_code == 204


def test_a_number_beyond_the_last_event_loses_nothing_to_come(rig: Rig) -> None:
    job_id = rig.submit()

    async def follow(client: httpx.AsyncClient) -> httpx.Response:
        async with rig.feed.running():
            reading = asyncio.create_task(client.get(f"/craft/jobs/{job_id}/events?after=999", headers=STREAM))
            while not rig.feed.watched:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(rig.finish, job_id)
            return await reading

    seen = numbers(rig.run(follow).content)
    assert seen == list(range(seen[0], len(events_of(rig, job_id)) + 1))
    assert seen[0] <= 4


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "9" * 30, "٣"])
def test_a_last_event_id_is_a_number(rig: Rig, last: str) -> None:
    job_id = rig.submit()
    headers = {**STREAM, "Last-Event-ID": last.encode()}
    problem = rig.get(f"/craft/jobs/{job_id}/events", headers=headers)
    assert (problem.status_code, problem.json()["param"]) == (422, "Last-Event-ID")


def test_streaming_an_unknown_job_is_not_found(rig: Rig) -> None:
    assert rig.get(f"/craft/jobs/{UNKNOWN_JOB}/events", headers=STREAM).status_code == 404


def test_a_client_follows_a_job_from_its_first_to_its_last_event(rig: Rig) -> None:
    job_id = rig.submit()

    async def follow(client: httpx.AsyncClient) -> list[httpx.Response]:
        async with rig.feed.running():
            path = f"/craft/jobs/{job_id}/events"
            readers = [asyncio.create_task(client.get(path, headers=STREAM)) for _ in range(5)]
            await asyncio.to_thread(rig.finish, job_id)
            return await asyncio.wait_for(asyncio.gather(*readers), 30)

    answers = rig.run(follow)
    assert rig.feed.watched == 0
    assert {tuple(numbers(answer.content)) for answer in answers} == {tuple(range(1, len(events_of(rig, job_id)) + 1))}
