"""Two real coordinators, two real workers and a real Valkey around one held stage: each fault is done on purpose."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from sqlmodel import col, select
from tests.chaos.faults.invariants import OWN_FAULT, Violation, violations
from tests.chaos.rig.brokers import Broker
from tests.chaos.rig.databases import DatabaseServer
from tests.chaos.rig.look import Look
from tests.chaos.rig.processes import WORKERS, Part, host_environment, path_with_workers
from tests.chaos.rig.stored import stored_violations
from tests.chaos.rig.system import Rules, Worker, is_ready
from tests.ports import free_ports
from tests.services.gateway.rigs.world import resolved

from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.infra.ids import new_id
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.store import schema
from craft_gateway.store.tables import Attempt, Dataset, Job, Stage

RULES = Rules.shipped(scale=1 / 30)
_PATIENCE_SECONDS = 45.0
_LOOK_SECONDS = 0.02
_seeds = count(1)


class Small:
    """Worker n speaks to coordinator n. Every job's first stage is held until `go`."""

    def __init__(self, state: Path, database: DatabaseServer, settings: Mapping[str, str]) -> None:
        logs = state / "logs"
        logs.mkdir(parents=True)
        broker, *coordinators = free_ports(3)
        self.state = state
        self.server = database
        self.broker = Broker(broker, state, logs=logs)
        shared = host_environment() | RULES.environment
        shared |= {
            "CRAFT_STATE_DIR": str(state),
            "CRAFT_DATABASE_URL": database.url,
            "CRAFT_BROKER_URL": self.broker.url,
            **settings,
        }
        self.urls = [f"http://127.0.0.1:{port}" for port in coordinators]
        serve = [sys.executable, "-m", "craft_gateway.coordinator"]
        self.coordinators = [
            Part(f"coordinator-{n}", serve, environment=shared | {"CRAFT_COORDINATOR__PORT": str(port)}, logs=logs)
            for n, port in enumerate(coordinators)
        ]
        work = [sys.executable, str(WORKERS / "held_stages.py")]
        shared["PYTHONPATH"] = path_with_workers()
        self.workers = [
            Worker(f"worker-{n}", work, environment=shared | {"CRAFT_COORDINATOR_URL": url}, logs=logs)
            for n, url in enumerate(self.urls)
        ]
        self.look = Look(database.url)
        self.store = FolderStore(state / "artifacts")
        self.jobs: list[str] = []
        self.doomed: set[str] = set()
        """Jobs whose workers a test kills until the cap of attempts is reached."""

    def start(self) -> None:
        """Start everything."""
        self.server.start()
        schema.upgrade(self.look.database)
        self.broker.start()
        for part in [*self.coordinators, *self.workers]:
            part.start()
        self.until(lambda: all(map(is_ready, self.urls)))

    def mend(self) -> None:
        """Start again what a fault has ended, and let what is held go on."""
        self.go()
        self.broker.thaw()
        self.broker.revive()
        for part in [*self.coordinators, *self.workers]:
            part.thaw()
            if not part.alive:
                part.start()
        self.until(lambda: all(map(is_ready, self.urls)))

    def stop(self) -> None:
        """End everything."""
        for part in [*self.workers, *self.coordinators, self.broker.part]:
            part.kill()
        self.broker.client.close()
        self.look.close()
        self.server.stop()

    def submit(self) -> str:
        """A new job whose first stage is held; returns the stage's id."""
        self.hold()
        seed = next(_seeds)
        scratch = self.store.scratch("dataset")
        (scratch / "rows").write_text(str(seed))
        key = f"{seed:064x}"
        dataset = self.store.publish(scratch, key=key, kind="dataset", parameters={}, inputs={}, result=StageResult())
        self._remember(dataset.ref)
        job = resolved(Strategy.COR_RAIT, seed=seed).model_copy(update={"dataset": dataset.ref})
        created = JobControl(self.look.database, exists=self.store.holds).create_job(job)
        self.jobs.append(created.id)
        with self.look.database.read() as session:
            return session.exec(select(Stage.id).where(Stage.job_id == created.id, Stage.name == "ingest")).one()

    def _remember(self, dataset: ArtifactRef) -> None:
        """As the gateway does, so that no sweep takes it for one that was left behind."""
        row = Dataset(
            id=new_id("dset"),
            team="default",
            task=Task.OPEN_ENDED,
            rows=1,
            key=dataset.key,
            digest=dataset.digest,
            content_hash=dataset.key,
            created_at=datetime.now(UTC),
        )
        with self.look.database.write() as session:
            session.add(row)

    def stage(self, stage_id: str) -> Stage:
        """As it is now."""
        with self.look.database.read() as session:
            return session.exec(select(Stage).where(Stage.id == stage_id)).one()

    def job(self, stage_id: str) -> Job:
        """The stage's job."""
        with self.look.database.read() as session:
            return session.exec(select(Job).where(Job.id == self.stage(stage_id).job_id)).one()

    def attempts(self, stage_id: str) -> list[Attempt]:
        """The stage's claims, in order."""
        with self.look.database.read() as session:
            return list(session.exec(select(Attempt).where(Attempt.stage_id == stage_id).order_by(col(Attempt.fence))))

    def outcomes(self, stage_id: str) -> list[str]:
        """How the stage's claims ended."""
        return [attempt.outcome.value for attempt in self.attempts(stage_id)]

    def begun(self, stage_id: str, attempts: int = 1) -> Worker:
        """Waits until that many attempts have begun to compute; returns the worker of the last."""
        checkpoint = self.store.checkpoint(self.stage(stage_id).key or "") / "begun"
        self.until(lambda: checkpoint.exists() and len(checkpoint.read_text().splitlines()) >= attempts)
        owner = self.stage(stage_id).owner or ""
        return next(worker for worker in self.workers if worker.owns(owner))

    def hold(self) -> None:
        """Stages wait from now on."""
        (self.state / "go").unlink(missing_ok=True)

    def go(self) -> None:
        """Stages go on."""
        (self.state / "go").touch()

    def succeeded(self, stage_id: str) -> bool:
        """Lets the stage go on and waits for its success."""
        self.go()
        self.until(lambda: self.stage(stage_id).status == "succeeded")
        return True

    def broken(self) -> list[Violation]:
        """What does not hold. Later stages have no workers here, so jobs need not have ended."""
        with self.look.database.read() as session:
            found = violations(
                session,
                accepted=self.jobs,
                living=lambda owner: any(worker.owns(owner) for worker in self.workers),
                most=RULES.max_attempts,
            )
        found += stored_violations(self.look.database, self.state / "artifacts")
        return [
            violation
            for violation in found
            if violation.invariant != "every job has ended"
            and not (violation.invariant == OWN_FAULT and violation.job_id in self.doomed)
        ]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it. Raises TimeoutError with the logs' ends."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                parts = [*self.coordinators, *self.workers]
                raise TimeoutError("\n".join(f"{part.name}:\n{part.last_lines()}" for part in parts))
            pause.wait(_LOOK_SECONDS)


@contextmanager
def small(state: Path, database: DatabaseServer, **settings: str) -> Iterator[Small]:
    """A running one; `settings` as in the environment."""
    made = Small(state, database, settings)
    try:
        made.start()
        yield made
    finally:
        made.stop()
