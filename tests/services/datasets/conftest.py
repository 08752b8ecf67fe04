"""A datasets service over a store in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from craft.infra.http.app import create_app
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.settings.datasets import DatasetsSettings, HubSettings, S3Settings
from craft.infra.storage.artifacts import FolderStore
from craft_datasets.intake import DatasetIntake
from craft_datasets.routes import router
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.sources import Sources
from craft_datasets.turns import fetch_turns, reading_turns


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def intake(store: FolderStore) -> DatasetIntake:
    return DatasetIntake(store, DatasetsSettings(max_rows=1000, max_line_bytes=100_000))


@pytest.fixture
def http(intake: DatasetIntake) -> Iterator[TestClient]:
    fetcher = Fetcher(OutboundPolicy(), Limits(max_bytes=1, seconds=1, idle_seconds=1))
    sources = Sources(fetcher, hub=HubSettings(), s3=S3Settings(), sign=lambda _: {})
    routes = router(intake, sources, readings=reading_turns(4), fetches=fetch_turns())
    app = create_app(title="test", service="datasets", routers=[routes])
    with TestClient(app) as client:
        yield client
