"""Event streams from outside: a real server process, sockets that break, readers that stall, and a server that dies."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from tests.services.gateway.rigs.gateway_process import GatewayProcess, gateway_process
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.events import EventType
from craft.contracts.public.accounts import KeyRequest, Role, Scope, TeamSettings
from craft_gateway.access.identity import Caller
from craft_gateway.lifecycle.job_transaction import job_transaction

# With the servers' tests, because it takes minutes: pings come every 15 seconds.
pytestmark = pytest.mark.servers

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
MIB = 2**20
PATIENCE_SECONDS = 60.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        yield made


@pytest.fixture
def gateway(rig: Rig, tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path) as made:
        yield made


@dataclass
class Reader:
    """Follows a job as a browser's EventSource does: after each break it comes back with the last id it saw."""

    url: str
    job_id: str
    seen: list[int] = field(default_factory=list)
    connections: int = 0
    ended: bool = False

    @asynccontextmanager
    async def connected(self, client: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": "text/event-stream"}
        if self.seen:
            headers["Last-Event-ID"] = str(self.seen[-1])
        self.connections += 1
        async with client.stream("GET", f"{self.url}/craft/jobs/{self.job_id}/events", headers=headers) as answer:
            yield answer

    async def read(self, client: httpx.AsyncClient, *, most: int | None = None) -> None:
        """Until the stream ends, or `most` events more are there."""
        left = most
        async with self.connected(client) as answer:
            if answer.status_code == 204:
                self.ended = True
                return
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    self.seen.append(int(line[4:]))
                    if left is not None:
                        left -= 1
                        if left == 0:
                            return

    async def follow(self, *, most: int | None = None, pause: float = 0.02) -> None:
        """Whatever breaks, until the server says that there is no more."""
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            while not self.ended:
                try:
                    await self.read(client, most=most)
                except httpx.TransportError:
                    await asyncio.sleep(pause)


def last_seq(rig: Rig, job_id: str) -> int:
    return rig.reader.last_event(job_id)[1]


def tell(rig: Rig, job_id: str, count: int, *, characters: int = 10) -> None:
    """So many events, in one transaction."""
    with job_transaction(rig.database, job_id) as unit:
        for _ in range(count):
            unit.emit(EventType.STAGE_RETRIED, text="是" * characters)


def test_a_stream_that_breaks_again_and_again_loses_and_repeats_nothing(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()
    chance = random.Random(7)

    async def go() -> list[Reader]:
        readers = [Reader(gateway.url, job) for _ in range(8)]
        following = [asyncio.create_task(each.follow(most=chance.randint(1, 5))) for each in readers]
        for _ in range(10):
            await asyncio.to_thread(tell, rig, job, 3)
            await asyncio.sleep(0.05)
        await asyncio.to_thread(rig.finish, job)
        await asyncio.wait_for(asyncio.gather(*following), PATIENCE_SECONDS)
        return readers

    readers = asyncio.run(go())
    whole = list(range(1, last_seq(rig, job) + 1))
    assert [each.seen for each in readers] == [whole] * len(readers)
    assert min(each.connections for each in readers) > 5


def test_a_gateway_killed_in_the_middle_is_found_again(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()

    async def go() -> list[Reader]:
        readers = [Reader(gateway.url, job) for _ in range(10)]
        following = [asyncio.create_task(each.follow()) for each in readers]
        for _ in range(2):
            await asyncio.to_thread(tell, rig, job, 20)
            while any(not each.seen for each in readers):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(gateway.part.kill)
            await asyncio.to_thread(tell, rig, job, 20)
            await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(rig.finish, job)
        await asyncio.wait_for(asyncio.gather(*following), PATIENCE_SECONDS)
        return readers

    readers = asyncio.run(go())
    whole = list(range(1, last_seq(rig, job) + 1))
    assert [each.seen for each in readers] == [whole] * len(readers)


def test_200_readers_at_once_all_get_everything(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()

    async def go() -> tuple[list[Reader], float]:
        readers = [Reader(gateway.url, job) for _ in range(200)]
        following = [asyncio.create_task(each.follow()) for each in readers]
        while any(not each.seen for each in readers):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(rig.finish, job)
        start = time.monotonic()
        await asyncio.wait_for(asyncio.gather(*following), PATIENCE_SECONDS)
        return readers, time.monotonic() - start

    readers, seconds = asyncio.run(go())
    print(f"200 readers had the end of the job and closed {seconds:.2f} s after it.")
    whole = list(range(1, last_seq(rig, job) + 1))
    assert [each.seen for each in readers] == [whole] * 200
    assert seconds < 10.0


def stalled(gateway: GatewayProcess, job: str) -> socket.socket:
    """A reader that asks and then takes nothing, with a small buffer of its own."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", gateway.port))
    request = f"GET /craft/jobs/{job}/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    made.sendall(request.encode())
    return made


@pytest.fixture
def stalls() -> Iterator[list[socket.socket]]:
    """Closed at the end."""
    made: list[socket.socket] = []
    yield made
    for each in made:
        each.close()


def test_readers_that_stall_hold_up_nobody_and_take_little_memory(
    rig: Rig, gateway: GatewayProcess, stalls: list[socket.socket]
) -> None:
    job = rig.submit()
    tell(rig, job, 100)
    stalls += [stalled(gateway, job) for _ in range(20)]
    process = psutil.Process(gateway.part.pid)

    async def go() -> tuple[Reader, int, int]:
        reader = Reader(gateway.url, job)
        following = asyncio.create_task(reader.follow())
        while not reader.seen:
            await asyncio.sleep(0.01)
        before = process.memory_info().rss
        most = before
        # 24 MB for each reader: 480 MB, if they were all kept.
        for _ in range(16):
            await asyncio.to_thread(tell, rig, job, 500, characters=1000)
            while reader.seen[-1] < last_seq(rig, job):
                await asyncio.sleep(0.01)
            most = max(most, process.memory_info().rss)
        await asyncio.to_thread(rig.finish, job)
        await asyncio.wait_for(following, PATIENCE_SECONDS)
        return reader, before, most

    reader, before, most = asyncio.run(go())
    print(f"20 stalled readers, 8,000 events of 3 KB: {before / MIB:.0f} MiB before, {most / MIB:.0f} MiB at most.")
    whole = list(range(1, last_seq(rig, job) + 1))
    assert reader.seen == whole
    assert most - before < 100 * MIB
    with stalls[0].makefile("rb") as late:
        seen = [int(line[4:]) for line in late if line.startswith(b"id: ")]
    assert seen == whole


def test_an_idle_stream_pings_every_15_seconds(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()

    async def go() -> list[float]:
        reader, moments = Reader(gateway.url, job), []
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client, reader.connected(client) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    begun = time.monotonic()
                if line == ": ping":
                    moments.append(time.monotonic() - begun)
                    if len(moments) == 2:
                        break
        return moments

    first, second = asyncio.run(asyncio.wait_for(go(), PATIENCE_SECONDS))
    assert 14.0 < first < 17.0
    assert 14.0 < second - first < 17.0


def test_progress_comes_at_most_once_a_second(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()
    stage = rig.claim(job)
    pause = threading.Event()
    start = time.monotonic()
    for done in range(60):
        rig.progress(stage, done, 60)
        pause.wait(0.05)
    seconds = time.monotonic() - start
    rig.complete(stage)
    rig.finish(job)
    headers = {"Accept": "text/event-stream"}
    lines = httpx.get(f"{gateway.url}/craft/jobs/{job}/events", headers=headers).text.splitlines()
    assert 2 <= lines.count("event: job.progress") <= seconds + 1


def test_a_finished_job_replays_closes_and_then_has_nothing_more(rig: Rig, gateway: GatewayProcess) -> None:
    job = rig.submit()
    rig.finish(job)
    path, headers = f"{gateway.url}/craft/jobs/{job}/events", {"Accept": "text/event-stream"}
    whole = httpx.get(path, headers=headers, timeout=10.0).text
    assert whole.count("\nid: ") == last_seq(rig, job)
    assert whole.count("event: job.succeeded") == 1
    headers["Last-Event-ID"] = str(last_seq(rig, job))
    assert httpx.get(path, headers=headers).status_code == 204


def test_the_stream_of_another_team_is_not_found(tmp_path: Path) -> None:
    with open_rig(tmp_path, operator_key=OPERATOR_KEY) as rig:
        keys = {}
        for team in ("first", "second"):
            rig.teams.put(team, TeamSettings())
            maker = Caller("operator", team, frozenset(Scope), operator=True)
            keys[team] = rig.keys.create(KeyRequest(name=team, role=Role.EDITOR), maker).key
        first = {"Authorization": f"Bearer {keys['first']}"}
        job = rig.post("/craft/jobs", json=body(), headers=first).json()["id"]
        rig.finish(job)
        with gateway_process(tmp_path, CRAFT_GATEWAY__OPERATOR_KEY=OPERATOR_KEY) as gateway:
            statuses = {}
            for team, key in keys.items():
                headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {key}"}
                statuses[team] = httpx.get(f"{gateway.url}/craft/jobs/{job}/events", headers=headers).status_code
    assert statuses == {"first": 200, "second": 404}
