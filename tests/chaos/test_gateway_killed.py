"""The gateway is killed after it has accepted a job: a real process over a real file."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.chaos.rig.processes import Part, host_environment
from tests.ports import free_ports
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig, rows

from craft.contracts.services.datasets import Reading

START_SECONDS = 60.0
KEY = {"Idempotency-Key": "the-same"}


class KilledGateway:
    """The API as a process that may be killed, and the rest of the system by hand."""

    def __init__(self, state: Path, rig: Rig) -> None:
        (port,) = free_ports(1)
        self.rig = rig
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20.0)
        own = {"CRAFT_STATE_DIR": str(state), "CRAFT_GATEWAY__PORT": str(port)}
        command = [sys.executable, "-m", "craft_gateway.api"]
        self.part = Part("gateway", command, environment=host_environment() | own, logs=state)

    def start(self) -> None:
        """Start it and return when it answers."""
        self.part.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, self.part.last_lines()
            time.sleep(0.05)

    def post(self) -> dict[str, Any]:
        """The job that the one body and the one key give."""
        dataset = self.rig.registry.add_rows(rows(), Reading(), name=None, team="default")
        answer = self.http.post("/craft/jobs", json=body(dataset={"id": dataset.id}), headers=KEY)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def _answers(self) -> bool:
        try:
            return self.http.get("/healthz").is_success
        except httpx.TransportError:
            return False


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[KilledGateway]:
    with open_rig(tmp_path) as rig:
        made = KilledGateway(tmp_path, rig)
        made.start()
        yield made
        made.part.kill()
        made.http.close()


def test_an_accepted_job_outlives_the_gateway_and_its_key_finds_it(gateway: KilledGateway) -> None:
    job = gateway.post()
    gateway.part.kill()
    gateway.start()
    assert gateway.http.get(f"/craft/jobs/{job['id']}").json()["status"] == "queued"
    assert gateway.post()["id"] == job["id"]
    assert len(gateway.http.get("/craft/jobs").json()["data"]) == 1
    gateway.rig.finish(job["id"])
    assert gateway.http.get(f"/craft/jobs/{job['id']}").json()["status"] == "succeeded"
