"""Datasets when things go wrong: uploads that break off, two at once, a service that is away, a full disk."""

import json
import logging
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.infra.storage.damage import BREAKS, Break
from tests.ports import free_ports
from tests.services.datasets.sources.source_servers import HOST, ROWS
from tests.services.gateway.rigs.dataset_rig import DatasetRig, dataset_rig, datasets_service
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import open_rig
from tests.tokens import SERVICE_TOKEN

from craft.contracts.stages.rows import QUESTIONS_FILE
from craft.infra.settings.datasets import HubSettings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.datasets.client import HttpDatasetsClient

_PATIENCE_SECONDS = 20.0


@pytest.fixture
def both(tmp_path: Path) -> Iterator[DatasetRig]:
    with dataset_rig(tmp_path) as made:
        yield made


def listed(both: DatasetRig) -> list[object]:
    found: list[object] = both.rig.get("/craft/datasets").json()["data"]
    return found


def test_an_upload_that_breaks_off_leaves_nothing(
    both: DatasetRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    with caplog.at_level(logging.INFO, "craft.http"), served(both.rig.app) as url:
        port = urlsplit(url).port
        with closing(socket.create_connection((HOST, port or 0))) as caller:
            # Large enough to be spooled to disk, and far from its end.
            start = head + ROWS * 40_000
            caller.sendall(
                b"POST /craft/datasets HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
                b"Content-Length: %d\r\n\r\n" % (len(start) * 2)
            )
            caller.sendall(start)
        until = time.monotonic() + _PATIENCE_SECONDS
        while "request" not in [record.message for record in caplog.records]:
            assert time.monotonic() < until, "the request never ended"
            time.sleep(0.02)
    assert "request_crashed" not in [record.message for record in caplog.records]
    assert listed(both) == []
    assert list(spool.iterdir()) == []
    assert list((both.rig.artifacts / "artifacts").iterdir()) == []


def test_identical_uploads_at_once_are_one_dataset(both: DatasetRig) -> None:
    with served(both.rig.app) as url, ThreadPoolExecutor(4) as pool:

        def upload(_: int) -> httpx.Response:
            return httpx.post(f"{url}/craft/datasets", files={"file": ("f", ROWS)}, timeout=60)

        answers = list(pool.map(upload, range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(listed(both)) == 1
    assert len(list((both.rig.artifacts / "artifacts").iterdir())) == 1
    assert list((both.rig.artifacts / "tmp").iterdir()) == []


def test_while_the_service_is_away_nothing_is_lost(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with (
        closing(HttpDatasetsClient(f"http://{HOST}:{port}", token=SERVICE_TOKEN)) as client,
        open_rig(tmp_path, datasets=client) as rig,
    ):
        files = {"file": ("f", ROWS)}
        refused = rig.post("/craft/datasets", files=files)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
        named = rig.post("/craft/datasets", json={"source": {"kind": "https", "url": "https://example.com/x"}})
        assert named.status_code == 503
        app = datasets_service(FolderStore(rig.artifacts), HubSettings())
        with served(app, port=port):
            kept = rig.post("/craft/datasets", files=files)
            assert kept.status_code == 201
        # What is there is shown, looked into and deleted without the service.
        links = kept.json()["links"]
        assert rig.get(links["self"]).status_code == rig.get(links["preview"]).status_code == 200
        assert rig.request("DELETE", links["self"]).status_code == 204


class _FullStore(FolderStore):
    """Every dataset is written to a device that has no space left."""

    def scratch(self, name: str) -> Path:
        folder = super().scratch(name)
        (folder / QUESTIONS_FILE).symlink_to("/dev/full")
        return folder


def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    with dataset_rig(tmp_path, store=_FullStore(tmp_path / "artifacts")) as both:
        answer = both.upload(ROWS)
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (507, "disk_full", True)
        assert listed(both) == []
        assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []


def test_a_file_that_is_too_large_is_413(both: DatasetRig) -> None:
    large = both.upload(ROWS * 110_000)
    assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")
    assert "bytes" in large.json()["detail"]
    assert listed(both) == []


@contextmanager
def lost_bytes(both: DatasetRig) -> Iterator[None]:
    """The bytes of every dataset are gone, as after a lost disk."""
    moved = both.rig.artifacts / "artifacts.away"
    (both.rig.artifacts / "artifacts").rename(moved)
    try:
        yield
    finally:
        moved.rename(both.rig.artifacts / "artifacts")


def test_bytes_that_are_gone_are_told_with_what_to_do(both: DatasetRig) -> None:
    made = both.uploaded(ROWS)
    with lost_bytes(both):
        answer = both.rig.get(made["links"]["preview"])
    assert (answer.status_code, answer.json()["code"]) == (410, "artifact_damaged")
    assert "Upload the same rows again" in answer.json()["hint"]
    assert both.rig.get(made["links"]["preview"]).status_code == 200


@pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS.keys())
def test_a_damaged_dataset_is_not_shown_and_uploading_it_again_repairs_it(both: DatasetRig, damage: Break) -> None:
    made = both.uploaded(ROWS)
    [folder] = (both.rig.artifacts / "artifacts").iterdir()
    damage(folder, QUESTIONS_FILE)
    problem = both.rig.get(made["links"]["preview"]).json()
    assert (problem["status"], problem["code"]) == (410, "artifact_damaged")
    assert made["id"] in problem["detail"]
    assert both.uploaded(ROWS)["id"] == made["id"]
    assert both.rig.get(made["links"]["preview"]).status_code == 200


def test_a_preview_of_huge_rows_ends_early(both: DatasetRig) -> None:
    rows = [{"id": str(n), "question": f"{n} " + "x" * 99_000, "answer": "y"} for n in range(50)]
    made = both.uploaded("\n".join(map(json.dumps, rows)).encode())
    assert len(both.rig.get(made["links"]["preview"], params={"limit": 50}).json()["rows"]) == 42
    assert both.rig.get(made["links"]["preview"], params={"limit": 51}).status_code == 422
