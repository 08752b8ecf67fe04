"""A corpus of hostile files against the real service: each is read honestly or refused clearly, and nothing breaks."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.ports import free_ports
from tests.services.datasets.reading.hostile_files import Hostile, hostile_files
from tests.tokens import ENVIRONMENT, SERVICE_HEADERS

from craft.contracts.services.datasets import DatasetStored
from craft.contracts.stages.rows import QUESTIONS_FILE, QuestionRow
from craft.infra.storage.artifacts import FolderStore, read_rows

# With the servers' tests, because it takes a minute: 142 files, each read in a child process.
pytestmark = pytest.mark.servers

MIN_FILES = 120
SECONDS_FOR_A_FILE = 30.0
CHILD_CAP_BYTES = 2**30
FLAT_BYTES = 50 * 2**20
_SAMPLE_SECONDS = 0.02


@dataclass
class Memory:
    """The most bytes that the service and any process that it started had in memory at a sample."""

    service: int = 0
    child: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A running datasets service."""

    url: str
    process: psutil.Process
    store: FolderStore
    scratch: Path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    state = tmp_path_factory.mktemp("hostile")
    (port,) = free_ports(1)
    changed = {
        "CRAFT_STATE_DIR": str(state),
        "CRAFT_DATASETS__PORT": str(port),
        "CRAFT_DATASETS__MAX_ROWS": "50000",
        "TMPDIR": str(state),
    }
    with (state / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "craft_datasets.api"], env=os.environ | ENVIRONMENT | changed, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _await(url)
            yield Service(
                url, psutil.Process(server.pid), FolderStore(state / "artifacts"), state / "artifacts" / "tmp"
            )
        finally:
            server.terminate()
            server.wait(20)


def _await(url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the service did not start")


@contextmanager
def watched(service: psutil.Process) -> Iterator[Memory]:
    """Sampled until the block ends."""
    memory, over = Memory(), threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            memory.service = max(memory.service, service.memory_info().rss)
            for child in service.children(recursive=True):
                try:
                    memory.child = max(memory.child, child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def fault(service: Service, client: httpx.Client, file: Hostile) -> str | None:
    """What is wrong with how the service took a file."""
    began = time.monotonic()
    answer = client.post("/v1/datasets", files={"file": ("upload", file.made())}, data={"task": "open_ended"})
    seconds = time.monotonic() - began
    if seconds > SECONDS_FOR_A_FILE:
        return f"took {seconds:.0f} s"
    if answer.status_code == 200:
        stored = DatasetStored.model_validate_json(answer.content)
        found = tuple(row.question for row in read_rows(service.store.open(stored.ref) / QUESTIONS_FILE, QuestionRow))
        return None if found == file.questions else f"was read as {str(found)[:200]}"
    if file.questions is not None:
        return f"was refused: {answer.text[:300]}"
    if answer.status_code != 422 or answer.json()["code"] != "dataset_invalid":
        return f"was answered {answer.status_code}: {answer.text[:300]}"
    return None if answer.json()["detail"] else "was refused without a reason"


def test_every_hostile_file_is_read_honestly_or_refused(service: Service, tmp_path: Path) -> None:
    files = hostile_files(tmp_path / "canary")
    assert len({file.name for file in files}) == len(files) >= MIN_FILES
    with (
        httpx.Client(base_url=service.url, headers=SERVICE_HEADERS, timeout=120) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        # One of each kind first, so that what is loaded once is no growth.
        assert [fault(service, client, file) for file in files[:2]] == [None, None]
        before = service.process.memory_info().rss
        with watched(service.process) as memory:
            found = dict(
                zip((file.name for file in files), pool.map(lambda f: fault(service, client, f), files), strict=True)
            )
        assert {name: wrong for name, wrong in found.items() if wrong} == {}
        assert client.get("/healthz").status_code == 200
    assert 0 < memory.child < CHILD_CAP_BYTES
    assert memory.service - before < FLAT_BYTES
    assert not (tmp_path / "canary").exists()
    assert list(service.scratch.iterdir()) == []
