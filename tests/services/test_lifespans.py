"""What an application does beside its requests begins with it: streams, loops and children depend on it."""

from importlib import import_module
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.tokens import SERVICE_TOKEN, WORKER_TOKEN

from craft.infra.settings.settings import Settings

WIRINGS = (
    "craft_gateway.wiring_api",
    "craft_datasets.wiring",
    "craft_inference.wiring",
    "craft_scoring.wiring",
    "craft_training.wiring",
)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_an_application_begins_and_ends_what_runs_beside_its_requests(wiring: str, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, service_token=SERVICE_TOKEN, worker_token=WORKER_TOKEN)
    app: FastAPI = import_module(wiring).app(settings)
    # Raises where any layer of the application does not pass the beginning on.
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").is_success
