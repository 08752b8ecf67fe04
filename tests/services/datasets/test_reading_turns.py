"""Readings of files are few at once, and a team that sends many leaves a turn to the others."""

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import httpx
from fastapi import FastAPI

from craft.contracts.services.datasets import TEAM_HEADER
from craft.infra.http.app import create_app
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.settings.datasets import DatasetsSettings, HubSettings, S3Settings
from craft.infra.storage.artifacts import FolderStore
from craft_datasets.intake import DatasetIntake
from craft_datasets.reading.reading_child import ReadingOrder, ReadingOutcome, read
from craft_datasets.routes import router
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.sources import Sources
from craft_datasets.turns import fetch_turns, reading_turns

AT_ONCE = 3
ROW = json.dumps({"question": "What is 1 plus 1?", "answers": ["2"]}).encode()


class SlowReading:
    """Reads in this process, the slow team's files only once they are let go; notes how many are read at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, order: ReadingOrder) -> ReadingOutcome:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if b"slow" in order.source.read_bytes():
                self.go.wait(20)
            return read(order)
        finally:
            with self._lock:
                self._now -= 1


def service(folder: Path, reading: SlowReading) -> FastAPI:
    intake = DatasetIntake(FolderStore(folder), DatasetsSettings(), read=reading)
    fetcher = Fetcher(OutboundPolicy(), Limits(max_bytes=1, seconds=1, idle_seconds=1))
    sources = Sources(fetcher, hub=HubSettings(), s3=S3Settings(), sign=lambda _: {})
    routes = router(intake, sources, readings=reading_turns(AT_ONCE), fetches=fetch_turns())
    return create_app(title="test", service="datasets", routers=[routes])


def test_of_many_uploads_few_are_read_at_once_and_another_team_is_not_delayed(tmp_path: Path) -> None:
    reading = SlowReading()

    async def main() -> tuple[Counter[int], httpx.Response]:
        transport = httpx.ASGITransport(service(tmp_path, reading))
        async with httpx.AsyncClient(transport=transport, base_url="http://a", timeout=30) as client:

            async def upload(team: str, content: bytes) -> httpx.Response:
                headers = {TEAM_HEADER: team}
                return await client.post("/v1/datasets", files={"file": ("f", content)}, headers=headers)

            attack = [asyncio.create_task(upload("alpha", ROW.replace(b"1 plus 1", b"slow"))) for _ in range(8)]
            while reading.most < AT_ONCE - 1:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                answer = await upload("beta", ROW)
            reading.go.set()
            return Counter(each.status_code for each in await asyncio.gather(*attack)), answer

    statuses, answer = asyncio.run(main())
    assert answer.status_code == 200
    # Two are read, four wait for them, and two are too many.
    assert statuses == {200: 6, 429: 2}
    assert reading.most <= AT_ONCE
