"""Safeguards outside the transitions, each taken out once (for theirs see the gateway's lifecycle/test_mutants.py)."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.rig.processes import WORKERS
from tests.infra.worker.fakes import FakeCoordinator
from tests.infra.worker.real_worker import TOKEN, Server, SmallCoordinator
from tests.infra.worker.test_runner import Scene, writes
from tests.services.gateway.rigs.world import FakeBroker, World

from craft.contracts.events import StageStatus
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import Complete
from craft.contracts.stages.kinds import Service, StageKind
from craft.errors import NotFound
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.settings.settings import Settings
from craft.infra.storage import artifacts
from craft.infra.storage.artifacts import ArtifactStore, FolderStore
from craft.infra.worker.reports import AttemptEnd
from craft_gateway.lifecycle.dispatch import OutboxRelay
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage

TOYS = Path(__file__).parents[1] / "infra" / "worker"
BEATS_WATCHED = 25
"""At five a second: several times the visibility timeout."""


# A hint leaves after the commit that made it.


class Witness(FakeBroker):
    """A broker so quick that a worker looks the stage up while the hint is being sent."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.found: list[StageStatus | None] = []
        self._database = database

    def send(self, service: Service, stage_id: str) -> None:
        with self._database.read() as session:
            stage = session.get(Stage, stage_id)
        self.found.append(stage.status if stage else None)


def hints_find_their_stages(world: World, witness: Witness) -> None:
    relay = OutboxRelay(world.database, witness)
    job_id = world.create()
    relay.send_due()
    world.do(job_id, "ingest")
    relay.send_due()
    assert len(witness.found) >= 2
    assert set(witness.found) == {StageStatus.READY}


def test_whoever_gets_a_hint_finds_the_stage_ready(world: World) -> None:
    hints_find_their_stages(world, Witness(world.database))


def test_a_hint_sent_before_the_commit_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness(world.database)

    def at_once(self: JobTransaction, stage: Stage, *, due: datetime | None = None) -> None:
        witness.send(stage.queue, stage.id)

    monkeypatch.setattr(JobTransaction, "dispatch", at_once)
    with pytest.raises(AssertionError):
        hints_find_their_stages(world, witness)


# An artifact is in its place before anybody is told of it.


class Reader(FakeCoordinator):
    """Opens what it is told of."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__()
        self._store = store

    def complete(self, stage_id: str, complete: Complete) -> None:
        assert (self._store.open(complete.manifest.ref) / "text").read_text() == "done"
        super().complete(stage_id, complete)


def a_completed_stage_can_be_read(folder: Path) -> None:
    scene = Scene(folder)
    scene.coordinator = Reader(scene.store)
    scene.runner._coordinator = scene.coordinator
    scene.child.answer = writes
    assert scene.run() is AttemptEnd.COMPLETED


def test_whoever_hears_that_a_stage_is_complete_can_read_its_artifact(tmp_path: Path) -> None:
    a_completed_stage_can_be_read(tmp_path)


def test_an_artifact_told_of_before_it_is_published_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(self: FolderStore, scratch: Path, folder: Path) -> None:
        """Not yet."""

    monkeypatch.setattr(FolderStore, "_rename", later)
    with pytest.raises((AssertionError, NotFound)):
        a_completed_stage_can_be_read(tmp_path)


# A power cut leaves an artifact whole or absent.

Step = tuple[str, str]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What reaches the disk for certain, and what gets its final name, in order."""
    done: list[Step] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(handle: int) -> None:
        real_fsync(handle)
        done.append(("on disk", Path(f"/proc/self/fd/{handle}").readlink().name))

    def rename(source: Any, target: Any) -> None:
        real_rename(source, target)
        done.append(("named", Path(target).name))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    return done


def what_is_named_is_on_disk(folder: Path, steps: list[Step]) -> None:
    store = FolderStore(folder)
    scratch = store.scratch("stg_1")
    (scratch / "rows").mkdir()
    (scratch / "rows" / "some.jsonl").write_text("{}\n")
    steps.clear()
    manifest = store.publish(scratch, key="a" * 64, kind=StageKind.FLOW, parameters={}, inputs={}, result=StageResult())
    named = steps.index(("named", store.open(manifest.ref).name))
    before = {name for what, name in steps[:named] if what == "on disk"}
    assert {"some.jsonl", "manifest.json", "rows", scratch.name} <= before
    # The name itself is an entry of this folder.
    assert ("on disk", "artifacts") in steps[named:]


def test_an_artifact_is_on_disk_before_it_has_its_name_and_the_name_before_it_counts(
    tmp_path: Path, steps: list[Step]
) -> None:
    what_is_named_is_on_disk(tmp_path, steps)


@pytest.mark.parametrize(
    "unflushed",
    [
        lambda path: path.is_file(),
        lambda path: path.is_dir() and path.name != "artifacts",
        lambda path: path.name == "artifacts",
    ],
    ids=["files", "folder", "parent folder"],
)
def test_a_missing_flush_is_seen(
    tmp_path: Path, steps: list[Step], unflushed: Callable[[Path], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_flush = artifacts.flush

    def flush(path: Path) -> None:
        if not unflushed(path):
            real_flush(path)

    monkeypatch.setattr(artifacts, "flush", flush)
    with pytest.raises(AssertionError):
        what_is_named_is_on_disk(tmp_path, steps)


# A hint is acknowledged when it arrives: a stage may take longer than the broker waits for an answer.


@contextmanager
def two_workers(folder: Path, acknowledge: str, port: int) -> Iterator[None]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TOYS), os.environ.get("PYTHONPATH")))),
        "CRAFT_STATE_DIR": str(folder),
        "CRAFT_COORDINATOR__PORT": str(port),
        "CRAFT_WORKER_TOKEN": TOKEN,
        "CRAFT_WORKER__GRACE_SECONDS": "2",
    }
    command = [sys.executable, str(WORKERS / "early_worker.py"), acknowledge]
    with ExitStack() as stack, (folder / "workers.log").open("ab") as log:
        for _ in range(2):
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
        yield


def claims_of_one_hint(folder: Path, acknowledge: str) -> int:
    """How often workers ask for a stage that outlasts the visibility timeout several times, after one hint."""
    claims = beats = 0
    with ExitStack() as stack:
        server = Server(folder / "valkey.sock")
        stack.callback(server.kill)
        coordinator = SmallCoordinator()
        stack.callback(coordinator.close)
        stack.enter_context(two_workers(folder, acknowledge, coordinator.port))
        coordinator.offer_toy("stg_1", do="long")
        send_stage(celery_app(Settings(state_dir=folder)), Service.SCORING, "stg_1")
        while beats < BEATS_WATCHED and claims < 2:
            action = coordinator.calls.get(timeout=60).action
            claims += action == "claim"
            beats += action == "renew"
    return claims


def test_a_stage_longer_than_the_visibility_timeout_is_asked_for_once(tmp_path: Path) -> None:
    assert claims_of_one_hint(tmp_path, "early") == 1


def test_late_acknowledgement_is_seen(tmp_path: Path) -> None:
    assert claims_of_one_hint(tmp_path, "late") > 1
