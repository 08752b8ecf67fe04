"""A datasets service over a store in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from craft.infra.artifacts import FolderStore
from craft.infra.http import create_app
from craft.infra.settings import DatasetsSettings
from craft_datasets.intake import DatasetIntake
from craft_datasets.routes import router


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def intake(store: FolderStore) -> DatasetIntake:
    return DatasetIntake(store, DatasetsSettings(max_rows=1000, max_line_bytes=100_000))


@pytest.fixture
def http(intake: DatasetIntake) -> Iterator[TestClient]:
    app = create_app(title="test", service="datasets", routers=[router(intake)])
    with TestClient(app) as client:
        yield client
