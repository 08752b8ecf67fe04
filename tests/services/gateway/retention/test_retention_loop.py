"""The coordinator collects garbage by itself."""

import asyncio
import os
import threading
from pathlib import Path

from fastapi.testclient import TestClient
from tests.services.gateway.rigs.world import FakeBroker, FakeStore, sha

from craft.infra.settings.coordinator import RetentionSettings
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.wiring_coordinator import coordinator_app

_PAUSE_SECONDS = 1234.5


def test_the_coordinator_sweeps_as_soon_as_it_runs_and_then_rests(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, retention=RetentionSettings(sweep_seconds=_PAUSE_SECONDS))
    old = FolderStore(settings.resolved_artifacts_dir).checkpoint(sha("a stage without a row"))
    os.utime(old, (0, 0))
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)
    rests = threading.Event()

    async def pause(seconds: float) -> None:
        if seconds == _PAUSE_SECONDS:
            rests.set()
        await asyncio.sleep(0.01)

    app = coordinator_app(database, exists=FakeStore(), queues=FakeBroker(), settings=settings, pause=pause)
    with TestClient(app):
        assert rests.wait(20)
    assert not old.exists()
