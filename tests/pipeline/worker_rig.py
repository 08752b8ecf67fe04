"""A coordinator on a real socket, a store on disk, and a worker's runner with a real child process."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from sqlmodel import col, select
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.world import resolved

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.kinds import Service
from craft.infra.http.app import create_app
from craft.infra.settings.coordinator import CoordinatorSettings
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.child_supervisor import WarmChild
from craft.infra.worker.coordinator_client import CoordinatorClient
from craft.infra.worker.device import device_lock, no_memory_to_release
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.store import schema
from craft_gateway.store.database import Clock, Database, database_clock
from craft_gateway.store.tables import Job, Stage, StageLog
from craft_gateway.worker_api.routes import worker_router

TOYS = Path(__file__).parents[1] / "infra" / "worker"
TOKEN = SecretStr("the workers' token")


class WorkerRig:
    """Settings that a deployment leaves alone are the defaults here, so that times measured here are its own."""

    def __init__(self, folder: Path, database: Database, control: JobControl, url: str, *, deed: str) -> None:
        self.database = database
        self.control = control
        self.root = folder
        self.store = FolderStore(folder)
        self.lock = folder / "device.lock"
        self.room: Callable[[], None] = no_memory_to_release
        self._began = folder / "began"
        os.mkfifo(self._began)
        environment = {**os.environ, "PYTHONPATH": str(TOYS), "TOY_DEED": deed, "TOY_BEGAN": str(self._began)}
        # As in docker-compose.yml and k8s: a worker that leaves has longer than one that is only told to stop.
        settings = WorkerSettings(grace_seconds=20.0)
        self.child = WarmChild("toy_stages:busy_functions", settings, environment=environment)
        self.client = CoordinatorClient(url, TOKEN)
        self.runner = StageRunner(
            service=Service.DATASETS,
            owner="host-1-wrk_1",
            coordinator=self.client,
            store=self.store,
            child=self.child,
            settings=settings,
            device_lock=device_lock(self.lock),
            release_memory=self._release_memory,
        )
        self._threads = ThreadPoolExecutor(1)

    def create(self, *, seed: int = 1) -> str:
        """A job whose first stage is ready for this worker."""
        scratch = self.store.scratch("dataset")
        (scratch / "text").write_text(f"{seed}")
        manifest = self.store.publish(
            scratch, key=f"{seed:064d}", kind="dataset", parameters={}, inputs={}, result=StageResult()
        )
        job = resolved(seed=seed).model_copy(update={"dataset": manifest.ref})
        return self.control.create_job(job).id

    def work(self, job_id: str) -> "Future[AttemptEnd]":
        """Give the worker the hint for the job's first stage."""
        return self._threads.submit(self.runner.run, self.stage(job_id).id)

    def wait_until_begun(self) -> None:
        """Returns when the child is in the middle of its deed."""
        self._began.read_bytes()

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.exec(select(Job).where(Job.id == job_id)).one()

    def stages(self, job_id: str) -> list[Stage]:
        """All stages of the job in planned order."""
        with self.database.read() as session:
            return list(session.exec(select(Stage).where(Stage.job_id == job_id).order_by(col(Stage.position))))

    def stage(self, job_id: str) -> Stage:
        with self.database.read() as session:
            return session.exec(select(Stage).where(Stage.job_id == job_id, Stage.name == "ingest")).one()

    def log(self, job_id: str) -> list[tuple[int, str]]:
        """The kept lines, each with its attempt."""
        with self.database.read() as session:
            rows = session.exec(select(StageLog).where(StageLog.job_id == job_id).order_by(col(StageLog.seq)))
            return [(row.attempt, row.line) for row in rows]

    def _release_memory(self) -> None:
        self.room()

    def close(self) -> None:
        self.child.close()
        self._threads.shutdown()
        self.client.close()


@contextmanager
def worker_rig(folder: Path, *, deed: str, clock: Clock = database_clock) -> Iterator[WorkerRig]:
    """A rig whose stages all do the same deed of `toy_stages`."""
    database = Database(f"sqlite:///{folder / 'craft.db'}", clock=clock)
    schema.upgrade(database)
    exists = FolderStore(folder).holds
    calls = WorkerCalls(database, exists=exists, settings=CoordinatorSettings())
    app = create_app(title="test", service="coordinator", routers=[worker_router(calls, token=TOKEN)])
    with served(app) as url:
        rig = WorkerRig(folder, database, JobControl(database, exists=exists), url, deed=deed)
        try:
            yield rig
        finally:
            rig.close()
    database.close()
