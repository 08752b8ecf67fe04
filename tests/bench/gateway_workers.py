"""The load of workers on a gateway, without models: threads claim stages, renew, publish small artifacts and complete.

They run in a process of their own. Another process computes, as a training worker on the same machine would.
"""

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from pydantic import SecretStr

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Release, Renew, StageProgress
from craft.contracts.stages.kinds import Service, StageKind
from craft.contracts.stages.rows import ADAPTER_ARCHIVE
from craft.errors import CraftError
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.coordinator_client import CoordinatorClient

THREADS_OF_A_QUEUE = 2
HEARTBEATS_OF_A_STAGE = 2
_NICENESS = 10
_IDLE_SECONDS = 0.2
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Workplace:
    """The addresses and folders for workers."""

    coordinator_url: str
    token: str
    database: Path
    artifacts: Path


@dataclass(frozen=True, slots=True)
class Counts:
    """The work that the workers have done, shared between processes."""

    stages: "Synchronized[int]"
    heartbeats: "Synchronized[int]"
    faults: "Synchronized[int]"


@contextmanager
def working(place: Workplace) -> Iterator[Counts]:
    """Run the workers and the computing process during the block, which begins after the first heartbeat."""
    counts = Counts(_SPAWN.Value("i", 0), _SPAWN.Value("i", 0), _SPAWN.Value("i", 0))
    stopping = _SPAWN.Event()
    workers = _SPAWN.Process(target=_work, args=(place, counts, stopping), daemon=True)
    computing = _SPAWN.Process(target=_compute, args=(os.getpid(),), daemon=True)
    workers.start()
    computing.start()
    try:
        while not counts.heartbeats.value:
            workers.join(0.1)
            if not workers.is_alive():
                raise SystemExit("The workers have ended.")
        yield counts
    finally:
        stopping.set()
        workers.join(20)
        for process in (workers, computing):
            process.terminate()
            process.join()


def _compute(parent: int) -> None:
    os.setsid()  # a session of its own, because Linux may weigh sessions against one another
    os.nice(_NICENESS)
    while os.getppid() == parent:
        sum(range(1_000_000))


def _work(place: Workplace, counts: Counts, stopping: Event) -> None:
    store = FolderStore(place.artifacts)
    with CoordinatorClient(place.coordinator_url, SecretStr(place.token)) as coordinator:
        threads = [
            threading.Thread(target=_Worker(place, coordinator, store, counts, stopping, service, number).run)
            for service in Service
            for number in range(THREADS_OF_A_QUEUE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class _Worker:
    def __init__(
        self,
        place: Workplace,
        coordinator: CoordinatorClient,
        store: FolderStore,
        counts: Counts,
        stopping: Event,
        service: Service,
        number: int,
    ) -> None:
        self._coordinator = coordinator
        self._store = store
        self._counts = counts
        self._stopping = stopping
        self._claim = Claim(owner=f"bench-{service}-{number}", service=service)
        # Replaces the dispatch messages of the queue. Read only, so that it blocks no writer.
        self._database = sqlite3.connect(f"file:{place.database}?mode=ro", uri=True, check_same_thread=False)

    def run(self) -> None:
        """Work until `stopping` is set."""
        while not self._stopping.is_set():
            try:
                busy = self._do_one()
            except (CraftError, sqlite3.OperationalError):
                self._add(self._counts.faults)
                busy = False
            if not busy:
                self._stopping.wait(_IDLE_SECONDS)
        self._database.close()

    def _do_one(self) -> bool:
        stage_id = self._ready_stage()
        claimed = None if stage_id is None else self._coordinator.claim(stage_id, self._claim)
        if claimed is None:
            return False
        for beat in range(HEARTBEATS_OF_A_STAGE):
            if self._stopping.wait(claimed.beat_seconds):
                self._coordinator.release(claimed.stage_id, Release(fence=claimed.fence))
                return True
            self._send_heartbeat(claimed, beat)
        self._complete(claimed)
        self._add(self._counts.stages)
        return True

    def _ready_stage(self) -> str | None:
        ready = "SELECT id FROM stage WHERE queue = ? AND status = 'ready' LIMIT 1"
        row: tuple[str] | None = self._database.execute(ready, (self._claim.service.value,)).fetchone()
        return None if row is None else row[0]

    def _send_heartbeat(self, claimed: ClaimedStage, beat: int) -> None:
        progress = StageProgress(done=beat + 1, total=HEARTBEATS_OF_A_STAGE, metrics={"loss": 1.0 / (beat + 1)})
        lines = [f"step {10 * beat + step}: loss {1.0 / (beat + step + 1):.4f}" for step in range(3)]
        self._coordinator.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=progress, log_lines=lines))
        self._add(self._counts.heartbeats)

    def _complete(self, claimed: ClaimedStage) -> None:
        scratch = self._store.scratch(claimed.name)
        (scratch / "rows.jsonl").write_text(f'{{"stage":"{claimed.stage_id}"}}\n' * 20)
        if claimed.parameters.kind is StageKind.PACKAGE:
            (scratch / ADAPTER_ARCHIVE).write_bytes(b"\x1f\x8b" + claimed.stage_id.encode())
        manifest = self._store.publish(
            scratch,
            key=claimed.key,
            kind=claimed.parameters.kind,
            parameters=claimed.parameters.model_dump(mode="json"),
            inputs=claimed.inputs,
            result=StageResult(counts={"rows": 20}),
        )
        self._coordinator.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))

    def _add(self, count: "Synchronized[int]") -> None:
        with count.get_lock():
            count.value += 1
