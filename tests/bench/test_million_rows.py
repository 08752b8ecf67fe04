"""Sends a million rows through the real datasets service, and measures seconds and memory.

The memory is that of the service, of its child and of the gateway. It is no part of `make test`:
`pytest -m bench tests/bench/test_million_rows.py -s`.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.ports import free_ports
from tests.services.gateway.rigs.public_rig import open_rig
from tests.tokens import ENVIRONMENT, SERVICE_TOKEN

from craft_gateway.datasets.client import HttpDatasetsClient

ROWS = 1_000_000
_SAMPLE_SECONDS = 0.05
SERVICE_BYTES = 60 * 2**20
CHILD_BYTES = 400 * 2**20
GATEWAY_BYTES = 150 * 2**20


@dataclass
class PeakMemory:
    """The largest sampled memory in bytes of the service, and of a process that it started."""

    service: int = 0
    child: int = 0


@contextmanager
def watched(process: psutil.Process) -> Iterator[PeakMemory]:
    """Sample the memory until the block ends."""
    peak, over = PeakMemory(), threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak.service = max(peak.service, process.memory_info().rss)
            for child in process.children():
                with suppress(psutil.NoSuchProcess):
                    peak.child = max(peak.child, child.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, psutil.Process]]:
    (port,) = free_ports(1)
    changed = {"CRAFT_STATE_DIR": str(tmp_path), "CRAFT_DATASETS__PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "craft_datasets.api"], env=os.environ | ENVIRONMENT | changed, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 60
            while True:
                try:
                    httpx.get(f"{url}/healthz").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < until, "the service did not start"
                    time.sleep(0.05)
            yield url, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(20)


def written(path: Path, *, first: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, first + ROWS):
            file.write(f'{{"q":"What is {number} plus {number}?","a":"{2 * number}"}}\n')
    return path


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_a_million_rows_fit_in_little_memory(tmp_path: Path, service: tuple[str, psutil.Process]) -> None:
    url, process = service
    made = []
    with closing(HttpDatasetsClient(url, token=SERVICE_TOKEN)) as client, open_rig(tmp_path, datasets=client) as rig:
        rig.post("/craft/datasets", json={"rows": [{"question": "Why?", "answer": "x"}]})
        before, own = process.memory_info().rss, psutil.Process().memory_info().rss
        with watched(process) as peak:
            for first in (0, ROWS // 2):
                began = time.monotonic()
                with written(tmp_path / "rows", first=first).open("rb") as file:
                    columns = '{"question": "q", "answer": "a"}'
                    answer = rig.post("/craft/datasets", files={"file": ("rows", file)}, data={"columns": columns})
                assert answer.status_code == 201, answer.text
                made.append(answer.json())
                print(f"{ROWS:,} rows in {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        overlap = rig.get(f"/craft/datasets/{made[0]['id']}/overlap", params={"with": made[1]["id"]}).json()
        print(f"compared in {time.monotonic() - began:.1f} s")
        gateway = psutil.Process().memory_info().rss - own
    assert (made[0]["rows"], made[0]["statistics"]["duplicate_questions_normalised"]) == (ROWS, 0)
    assert (overlap["overlapping_rows"], overlap["data"][0]["row"]) == (ROWS // 2, ROWS // 2 + 1)
    service_bytes = peak.service - before
    mib = [round(count / 2**20) for count in (service_bytes, peak.child, gateway)]
    print(f"MiB: the service grew by {mib[0]}, its child had {mib[1]}, the gateway (and this test) grew by {mib[2]}")
    assert service_bytes < SERVICE_BYTES
    assert 0 < peak.child < CHILD_BYTES
    assert gateway < GATEWAY_BYTES
