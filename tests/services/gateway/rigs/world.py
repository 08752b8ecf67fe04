"""The gateway's state without its processes: a real SQLite file, a clock that tests move, a store of names only."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlmodel import Session, col, select

from craft.contracts.documents.estimate import Estimate, MemoryEstimate, SecondsEstimate, StageEstimate
from craft.contracts.events import EventType
from craft.contracts.problems import StageError
from craft.contracts.public.accounts import DEFAULT_TEAM, TeamSettings
from craft.contracts.spec.jobs import BaseModelRef, DatasetRef, JobSpec
from craft.contracts.stages.artifacts import ArtifactRef, Manifest, StageResult
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release
from craft.contracts.stages.kinds import Service, StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.strategies import Strategy
from craft.errors import CraftError, Unavailable
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.accounts.teams import TeamRegistry
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.lifecycle.dispatch import OutboxRelay
from craft_gateway.lifecycle.maintenance import Maintenance
from craft_gateway.lifecycle.reuse import ArtifactExists
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.metrics.counters import StageMetrics
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Attempt, Event, Job, Outbox, Stage
from craft_gateway.worker_api.observed import LostLeases

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = CoordinatorSettings(
    lease_seconds=90.0, beat_seconds=15.0, resend_seconds=60.0, max_lost_attempts=3, stage_timeout_seconds=3600.0
)

LOOKS_SECONDS = 13.0
"""Less than the time after which a coordinator that looks at no lease counts as away."""
WATCHED_SECONDS = 200.0


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(key=sha(f"key of {name}"), digest=sha(f"bytes of {name}"))


def resolved(*strategies: Strategy, evaluation: Sequence[str] = (), **spec: Any) -> ResolvedJob:
    """Return a resolved job on one dataset and one model."""
    return ResolvedJob(
        spec=JobSpec(
            base_model=BaseModelRef(id="some/model"),
            dataset=DatasetRef(id=f"dset_{'0' * 26}"),
            strategies=list(strategies or (Strategy.CRAFT,)),
            **spec,
        ),
        model=ModelRef(id="some/model", revision="main", digest=sha("model")),
        engine=EngineRef(),
        embedder="some/embedder",
        dataset=ref("dataset"),
        evaluation={name: ref(name) for name in evaluation},
    )


def estimate_of(units: Mapping[str, float], *, parameters: int = 1_000_000) -> Estimate:
    """An estimate that knows how large these stages of a job are, and how large its model is."""
    return Estimate(
        stages=len(units),
        reused_stages=0,
        train_questions=0,
        held_out_questions=0,
        prompts=0,
        generated_tokens=0,
        trained_samples=0,
        optimiser_steps=0,
        stage_estimates=[
            StageEstimate(
                stage=name,
                kind=StageKind(name.partition(":")[0]),
                units=count,
                reused=False,
                seconds=SecondsEstimate(seconds=None),
            )
            for name, count in units.items()
        ],
        memory=MemoryEstimate(
            parameters=parameters,
            weights_bytes=0,
            adapter_bytes=0,
            training_bytes=0,
            inference_bytes=0,
            host_bytes=0,
            device_bytes=0,
        ),
    )


class FakeClock:
    """A clock of the database that tests move, and the seconds that processes count."""

    def __init__(self) -> None:
        self.now = START
        self.counted_seconds = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, session: Session) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.counted_seconds

    def advance(self, seconds: float) -> None:
        """Time passes while a coordinator looks at the leases all the time."""
        self.meanwhile()
        # Of a long time, the last part is enough: every lease has ended by then.
        self.now += timedelta(seconds=max(0.0, seconds - WATCHED_SECONDS))
        left = min(seconds, WATCHED_SECONDS)
        while left > 0:
            step = min(left, LOOKS_SECONDS)
            self.away(step)
            self.meanwhile()
            left -= step

    def away(self, seconds: float) -> None:
        """Time passes while no coordinator does anything."""
        self.now += timedelta(seconds=seconds)
        self.counted_seconds += seconds


class FakeStore:
    """Records which artifacts were published."""

    def __init__(self) -> None:
        self.published: set[tuple[str, str]] = set()

    def __call__(self, artifact: ArtifactRef) -> bool:
        return (artifact.key, artifact.digest) in self.published

    def publish(self, artifact: ArtifactRef) -> None:
        self.published.add((artifact.key, artifact.digest))

    def lose(self, artifact: ArtifactRef) -> None:
        self.published.discard((artifact.key, artifact.digest))


class FakeBroker:
    """A broker that may be down, and that records what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Service, str]] = []
        self.up = True
        self.unread: dict[Service, int] = {}

    def length(self, service: Service) -> int:
        if not self.up:
            raise Unavailable("down")
        return self.unread.get(service, 0)

    def send(self, service: Service, stage_id: str) -> None:
        if not self.up:
            raise Unavailable("down")
        self.sent.append((service, stage_id))


class World:
    """All objects that jobs and workers use, and short calls for the steps of a worker."""

    def __init__(self, database: Database, clock: FakeClock, settings: CoordinatorSettings = SETTINGS) -> None:
        self.database = database
        self.clock = clock
        self.settings = settings
        self.store = FakeStore()
        self.broker = FakeBroker()
        self.has_space = True
        self._workers = count(1)
        self.connect(self.store)
        self.relay = OutboxRelay(database, self.broker)

    def connect(self, exists: ArtifactExists) -> None:
        """Use this artifact store from now on."""
        self.control = JobControl(self.database, exists=exists)
        self.calls = WorkerCalls(self.database, exists=exists, settings=self.settings, has_space=lambda: self.has_space)
        self.maintain(Maintenance(self.database, self.calls, settings=self.settings, monotonic=self.clock.monotonic))

    def maintain(self, maintenance: Maintenance) -> None:
        """Have this coordinator look at the leases from now on."""
        self.maintenance = maintenance
        self.clock.meanwhile = maintenance.watch
        maintenance.watch()

    def between(self, **teams: TeamSettings) -> None:
        """Create these teams, which share the workers with all others."""
        registry = TeamRegistry(self.database)
        for name, settings in teams.items():
            registry.put(name, settings)

    def create(
        self, *strategies: Strategy, team: str = DEFAULT_TEAM, units: Mapping[str, float] | None = None, **spec: Any
    ) -> str:
        """`units`: the size of each stage in the job's estimate, by name; None makes a job without an estimate."""
        job, estimate = resolved(*strategies, **spec), None if units is None else estimate_of(units)
        return self.control.create_job(job, origin=Origin(team), estimate=estimate).id

    def attempts(self, job_id: str) -> list[Attempt]:
        with self.database.read() as session:
            rows = select(Attempt).where(Attempt.job_id == job_id)
            return list(session.exec(rows.order_by(col(Attempt.started_at), col(Attempt.fence))))

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.exec(select(Job).where(Job.id == job_id)).one()

    def stages(self, job_id: str) -> dict[str, Stage]:
        with self.database.read() as session:
            rows = session.exec(select(Stage).where(Stage.job_id == job_id).order_by(col(Stage.position)))
            return {stage.name: stage for stage in rows}

    def stage(self, job_id: str, name: str) -> Stage:
        return self.stages(job_id)[name]

    def events(self, job_id: str) -> list[Event]:
        with self.database.read() as session:
            return list(session.exec(select(Event).where(Event.subject == job_id).order_by(col(Event.seq))))

    def event_types(self, job_id: str) -> list[EventType]:
        return [event.type for event in self.events(job_id)]

    def outbox(self) -> list[Outbox]:
        with self.database.read() as session:
            return list(session.exec(select(Outbox).order_by(col(Outbox.id))))

    def try_claim(self, stage: Stage, owner: str | None = None) -> ClaimedStage | None:
        """Claim as a worker that is idle; without a name, as a new worker."""
        owner = owner or f"new-worker-{next(self._workers)}"
        return self.calls.claim(stage.id, Claim(owner=owner, service=stage.queue))

    def claim(self, job_id: str, name: str, owner: str | None = None) -> ClaimedStage:
        claimed = self.try_claim(self.stage(job_id, name), owner)
        assert claimed is not None
        assert (claimed.job_id, claimed.name) == (job_id, name)
        return claimed

    def complete(self, claimed: ClaimedStage, *, content: str = "") -> Manifest:
        manifest = manifest_of(claimed, content)
        self.store.publish(manifest.ref)
        self.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))
        return manifest

    def fail(self, claimed: ClaimedStage, error: CraftError) -> None:
        self.calls.fail(claimed.stage_id, Fail(fence=claimed.fence, error=StageError.of(error)))

    def release(self, claimed: ClaimedStage) -> None:
        self.calls.release(claimed.stage_id, Release(fence=claimed.fence))

    def do(self, job_id: str, *names: str) -> None:
        """Claim and complete these stages, one after another."""
        for name in names:
            self.complete(self.claim(job_id, name))

    def do_all(self, job_id: str) -> None:
        """Complete stages until the job has ended."""
        while not self.job(job_id).status.terminal:
            claims = [self.try_claim(stage) for stage in self.stages(job_id).values() if stage.status == "ready"]
            assert any(claims), self.stages(job_id)
            for claimed in filter(None, claims):
                self.complete(claimed)


def observed_maintenance(world: World, metrics: StageMetrics) -> Maintenance:
    """Have the world's coordinator count and trace lost leases, as it is wired."""
    lost = LostLeases(world.database, metrics)
    world.maintain(
        Maintenance(
            world.database,
            world.calls,
            settings=SETTINGS,
            on_lease_lost=lost.report,
            monotonic=world.clock.monotonic,
        )
    )
    return world.maintenance


def manifest_of(claimed: ClaimedStage, content: str = "") -> Manifest:
    return Manifest(
        key=claimed.key,
        digest=sha(f"{claimed.key} {content}"),
        kind=claimed.parameters.kind,
        code_version=1,
        parameters=claimed.parameters.model_dump(mode="json"),
        inputs=claimed.inputs,
        files=[],
        result=StageResult(),
    )


@cache
def _empty_schema() -> bytes:
    """Return the bytes of a migrated, empty database, which is migrated once."""
    with TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/empty.db")
        schema.upgrade(database)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
        database.close()
        return Path(folder, "empty.db").read_bytes()


@contextmanager
def new_world(folder: Path, settings: CoordinatorSettings = SETTINGS) -> Iterator[World]:
    """Open a world over a new database file in `folder`."""
    path = folder / "craft.db"
    path.write_bytes(_empty_schema())
    clock = FakeClock()
    database = Database(f"sqlite:///{path}", clock=clock)
    try:
        yield World(database, clock, settings)
    finally:
        database.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_world(url: str, settings: CoordinatorSettings = SETTINGS) -> Iterator[World]:
    """Open a world over an emptied PostgreSQL database."""
    clock = FakeClock()
    database = Database(url, clock=clock)
    try:
        drop_everything(database)
        schema.upgrade(database)
        yield World(database, clock, settings)
    finally:
        database.close()


def drop_everything(database: Database) -> None:
    """Leave a PostgreSQL database without a table."""
    with database.writer.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
