"""The whole system on its own ports: a real Valkey, gateway, coordinator, services and Celery workers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.fetched_models import MODELS
from tests.ports import free_ports
from tests.tiny_model import Fact, made_up_facts, make_tiny_model

from craft_client import Client

PARTS = ("GATEWAY", "COORDINATOR", "DATASETS", "INFERENCE", "SCORING", "TRAINING", "MODEL_SERVER")
FACTS = 160
START_SECONDS = 120.0


@dataclass(frozen=True)
class RunningStack:
    """A running system, its state folder, and the facts of which its model `tiny` knows half."""

    client: Client
    state: Path
    facts: list[Fact]
    process: "subprocess.Popen[bytes]"

    def log(self, name: str) -> str:
        """The log of one of its processes."""
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")


class Up(NamedTuple):
    """A running `craft up`."""

    url: str
    client: Client
    process: "subprocess.Popen[bytes]"


def _copy_embedder(models: Path) -> None:
    # The service refuses a link, because it leads out of the models folder.
    name = "sentence-transformers/all-MiniLM-L6-v2"
    shutil.copytree(MODELS / name, models / name)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    state = tmp_path_factory.mktemp("stack")
    models = state / "models"
    facts = made_up_facts(FACTS, seed=1)
    make_tiny_model(models / "tiny", facts, seed=1)
    _copy_embedder(models)
    with running(state) as up:
        yield RunningStack(up.client, state, facts, up.process)


@contextmanager
def running(state: Path, **settings: str) -> Iterator[Up]:
    """Run `craft up` on this state folder and free ports, with further environment variables. Stops it at the end."""
    ports = dict(zip(PARTS, free_ports(len(PARTS)), strict=True))
    environment = os.environ | {f"CRAFT_{part}__PORT": str(port) for part, port in ports.items()}
    environment |= {"CRAFT_COORDINATOR__LEASE_SECONDS": "6", "CRAFT_COORDINATOR__BEAT_SECONDS": "1"} | settings
    with (state / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "craft_cli", "up", "--state-dir", str(state)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{ports['GATEWAY']}"
    with Client(url) as client:
        try:
            _until_ready(process, state)
            yield Up(url, client, process)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def _until_ready(process: "subprocess.Popen[bytes]", state: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Ready:" not in (text := (state / "up.log").read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
