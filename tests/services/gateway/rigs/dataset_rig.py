"""The public API with the real datasets service: over a socket, or in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from fastapi import FastAPI
from tests.services.datasets.sources.source_servers import HOST
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, open_rig
from tests.tokens import SERVICE_TOKEN

from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.contracts.services.datasets import DatasetStored, FetchRequest, Reading
from craft.errors import Unavailable
from craft.infra.http.app import create_app
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.settings.datasets import DatasetsSettings, HubSettings, S3Settings
from craft.infra.storage.artifacts import ArtifactStore, FolderStore
from craft_datasets.intake import DatasetIntake
from craft_datasets.reading.reading_child import read
from craft_datasets.routes import router
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.sources import Sources
from craft_datasets.turns import fetch_turns, reading_turns
from craft_gateway.datasets.client import HttpDatasetsClient

MAX_BYTES = 8 * 2**20


@dataclass
class DatasetRig:
    """A rig with real datasets. `hub` is the model hub that the service uses."""

    rig: Rig
    hub: HubSettings

    def upload(self, content: bytes, *, name: str = "facts.jsonl", **fields: str) -> httpx.Response:
        return self.rig.post("/craft/datasets", files={"file": (name, content)}, data=fields)

    def uploaded(self, content: bytes, **fields: str) -> dict[str, Any]:
        answer = self.upload(content, **fields)
        assert answer.status_code == 201, answer.text
        dataset: dict[str, Any] = answer.json()
        return dataset

    def send(self, **body: Any) -> httpx.Response:
        return self.rig.post("/craft/datasets", json=body)


def datasets_service(store: ArtifactStore, hub: HubSettings) -> FastAPI:
    """Build the service; it may fetch from this machine."""
    fetcher = Fetcher(OutboundPolicy((HOST,)), Limits(max_bytes=MAX_BYTES, seconds=5, idle_seconds=1))
    sources = Sources(fetcher, hub=hub, s3=S3Settings(), sign=lambda _: {})
    routers = [
        router(DatasetIntake(store, DatasetsSettings()), sources, readings=reading_turns(4), fetches=fetch_turns())
    ]
    return create_app(title="datasets", service="datasets", routers=routers, max_body_bytes=MAX_BYTES)


@contextmanager
def dataset_rig(folder: Path, *, store: ArtifactStore | None = None, **options: Any) -> Iterator[DatasetRig]:
    """Open both services in an empty folder."""
    hub = HubSettings()
    with served(datasets_service(store or FolderStore(folder / "artifacts"), hub)) as url:
        client = HttpDatasetsClient(url, token=SERVICE_TOKEN)
        try:
            with open_rig(folder, datasets=client, **options) as rig:
                yield DatasetRig(rig, hub)
        finally:
            client.close()


class IntakeClient:
    """A client that calls the datasets service's code, without a socket; this process reads the files."""

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        self._intake = DatasetIntake(store, DatasetsSettings(), read=read)
        self._upload = folder / "upload"

    def store_file(
        self,
        file: BinaryIO,
        reading: Reading,
        *,
        team: str = DEFAULT_TEAM,
        chat_lines: bool = False,
    ) -> DatasetStored:
        self._upload.write_bytes(file.read())
        return self._intake.store_file(self._upload, reading, chat_lines=chat_lines)

    def store_source(self, request: FetchRequest, *, team: str = DEFAULT_TEAM) -> DatasetStored:
        raise Unavailable("This client reaches no source.", param="source")


@contextmanager
def row_checking_rig(folder: Path) -> Iterator[Rig]:
    """Open a rig that checks rows as the datasets service does, and is nearly as fast as one with the fake."""
    with open_rig(folder, datasets=IntakeClient(FolderStore(folder / "artifacts"), folder)) as rig:
        yield rig
