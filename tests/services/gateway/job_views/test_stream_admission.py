"""Open streams and keys that end: a stream that was opened with a good key does not outlive it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.errors import Unavailable
from craft_gateway.access.authentication import Authenticator
from craft_gateway.access.identity import Identity
from craft_gateway.accounts.keys import ApiKeys
from craft_gateway.job_views.event_stream import EventFeed
from craft_gateway.store.tables import ApiKey

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
REMEMBERED_SECONDS = 5.0
"""How long an ordinary request with a revoked key may still be answered."""


class WatchedKeys(ApiKeys):
    """Keys of a database that may be away, and how often one was looked up."""

    away = False
    asked = 0

    def identify(self, key: str) -> Identity:
        self.asked += 1
        if self.away:
            raise Unavailable("The database is away.")
        return super().identify(key)


class Following:
    """A rig with a reader's key and a job; its streams ask often, and keys are remembered by a clock of its own."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.now = rig, 0.0
        self.keys = WatchedKeys(rig.database)
        rig.authenticator = Authenticator(self.keys, operator_key=SecretStr(OPERATOR_KEY), clock=lambda: self.now)
        rig.feed = EventFeed(rig.reader, poll_seconds=0.005, check_seconds=0.005)
        rig.app = rig.new_app()
        made = rig.post("/craft/api-keys", json={"name": "a reader", "role": "viewer"}, headers=OPERATOR).json()
        self.key_id = str(made["id"])
        self.headers = {"Authorization": f"Bearer {made['key']}", "Accept": "text/event-stream"}
        self.job_id = str(rig.post("/craft/jobs", json=body(), headers=OPERATOR).json()["id"])

    def stream(self, meanwhile: Callable[[], Awaitable[None]]) -> httpx.Response:
        """What a reader of the job gets who comes before `meanwhile`, once the stream has ended."""

        async def follow(client: httpx.AsyncClient) -> httpx.Response:
            async with self.rig.feed.running(), asyncio.timeout(30):
                path = f"/craft/jobs/{self.job_id}/events"
                reading = asyncio.create_task(client.get(path, headers=self.headers))
                while not self.rig.feed.watched:
                    await asyncio.sleep(0)
                await meanwhile()
                return await reading

        return self.rig.run(follow)

    async def forgotten(self) -> None:
        """Let what is remembered of the key grow too old, until it was looked up anew or the stream has ended."""
        # The first of two may have begun before.
        enough = self.keys.asked + 2
        while self.keys.asked < enough and self.rig.feed.watched:
            self.now += REMEMBERED_SECONDS
            await asyncio.sleep(0.001)

    async def revoke(self) -> None:
        await asyncio.to_thread(self.keys.revoke, self.key_id)

    async def expire(self) -> None:
        with self.rig.database.write() as session:
            session.get_one(ApiKey, self.key_id).expires_at = self.rig.database.now(session) - timedelta(seconds=1)

    async def finish(self) -> None:
        await asyncio.to_thread(self.rig.finish, self.job_id)

    def status(self) -> int:
        return self.rig.get(f"/craft/jobs/{self.job_id}/events", headers=self.headers).status_code


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    with open_rig(tmp_path, operator_key=OPERATOR_KEY) as rig:
        yield Following(rig)


@pytest.mark.parametrize("end", [Following.revoke, Following.expire])
def test_a_stream_ends_with_its_key_and_who_comes_back_is_refused(
    following: Following, end: Callable[[Following], Awaitable[None]]
) -> None:
    async def meanwhile() -> None:
        await end(following)
        await following.forgotten()

    ended = following.stream(meanwhile)
    assert (ended.status_code, "event: job.created" in ended.text) == (200, True)
    assert ended.text.endswith("\n\n")
    assert "event: job.succeeded" not in ended.text
    assert following.rig.feed.watched == 0
    assert following.status() == 401


def test_a_key_that_stays_good_is_followed_to_the_jobs_end(following: Following) -> None:
    async def meanwhile() -> None:
        for _ in range(3):
            await following.forgotten()
        await following.finish()

    assert "event: job.succeeded" in following.stream(meanwhile).text


def test_a_stream_outlasts_a_database_that_cannot_tell_about_its_key(following: Following) -> None:
    async def meanwhile() -> None:
        following.keys.away = True
        await following.forgotten()
        await following.forgotten()
        following.keys.away = False
        await following.finish()

    assert "event: job.succeeded" in following.stream(meanwhile).text


def test_another_keys_end_ends_no_stream(following: Following) -> None:
    other = following.rig.post("/craft/api-keys", json={"name": "another"}, headers=OPERATOR).json()["id"]

    async def meanwhile() -> None:
        await asyncio.to_thread(following.keys.revoke, other)
        await following.forgotten()
        await following.finish()

    assert "event: job.succeeded" in following.stream(meanwhile).text


def test_a_poll_that_waits_tells_nothing_once_its_key_is_revoked(following: Following) -> None:
    rig = following.rig
    key = {"Authorization": following.headers["Authorization"]}

    async def wait(client: httpx.AsyncClient) -> httpx.Response:
        async with rig.feed.running(), asyncio.timeout(30):
            waiting = asyncio.create_task(client.get(f"/craft/jobs/{following.job_id}?wait=30", headers=key))
            while not rig.feed.watched:
                await asyncio.sleep(0)
            await asyncio.to_thread(following.keys.revoke, following.key_id)
            following.now += REMEMBERED_SECONDS
            await asyncio.to_thread(rig.finish, following.job_id)
            return await waiting

    answer = rig.run(wait)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
