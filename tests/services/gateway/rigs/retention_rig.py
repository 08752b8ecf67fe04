"""A world with a store of real folders, in which tests make jobs and artifacts of any age."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from sqlalchemy import update
from sqlmodel import col, select
from tests.services.gateway.rigs.world import World, sha

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.claims import ClaimedStage, Complete
from craft.contracts.stages.kinds import StageKind
from craft.core.strategies import Strategy
from craft.infra.settings.coordinator import RetentionSettings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.retention.expiry import Expired, Expiry
from craft_gateway.retention.store import ArtifactFolders, CollectableStore, folder_of
from craft_gateway.retention.uses import Use, uses
from craft_gateway.store.tables import Artifact, Job, Stage, StageLog

LIFETIMES = RetentionSettings()


class RetentionRig:
    """A database and an artifact store for the garbage collector, and short calls for the tests."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root
        self.store = FolderStore(root)
        self.folders = ArtifactFolders(root)
        world.connect(self.store.holds)

    def collector(
        self, settings: RetentionSettings = LIFETIMES, *, store: CollectableStore | None = None, page: int = 500
    ) -> GarbageCollector:
        return GarbageCollector(self.world.database, store or self.folders, settings, page=page)

    def expired(self) -> list[Expired]:
        """Return the items that the collector finds, before it removes any."""
        pages = Expiry(self.world.database, self.folders, LIFETIMES).pages()
        return [expired for page in pages for expired in page]

    def collect(self, settings: RetentionSettings = LIFETIMES, *, page: int = 500) -> None:
        """Run a whole cycle."""
        collector = self.collector(settings, page=page)
        while collector.collect_page():
            pass

    def publish(self, name: str, *, kind: StageKind = StageKind.SCORE, key: str | None = None) -> ArtifactRef:
        """Publish an artifact without a row."""
        scratch = self.store.scratch("by hand")
        (scratch / "rows.jsonl").write_text(name)
        manifest = self.store.publish(
            scratch, key=key or sha(name), kind=kind, parameters={}, inputs={}, result=StageResult()
        )
        return manifest.ref

    def artifact(self, name: str, *, kind: StageKind = StageKind.SCORE) -> ArtifactRef:
        """Publish an artifact with a row of the present time; no stage uses it."""
        ref = self.publish(name, kind=kind)
        manifest = self.store.manifest(ref).model_dump(mode="json")
        now = self.world.clock.now
        with self.world.database.write() as session:
            session.add(Artifact(key=ref.key, digest=ref.digest, kind=kind, manifest=manifest, created_at=now))
        return ref

    def job(self, *made: ArtifactRef, ended: bool = True) -> str:
        """Create a job whose first stages have these artifacts. With `ended` it ends now."""
        job_id = self.world.create(Strategy.VAN_TUNING)
        names = list(self.world.stages(job_id))
        for name, ref in zip(names, made, strict=False):
            self.set_stage(job_id, name, status=StageStatus.SUCCEEDED, artifact_key=ref.key, artifact_digest=ref.digest)
        if ended:
            for name in names[len(made) :]:
                self.set_stage(job_id, name, status=StageStatus.SKIPPED)
            self.set_job(job_id, status=JobStatus.FAILED, finished_at=self.world.clock.now)
        return job_id

    def set_stage(self, job_id: str, name: str, **values: object) -> None:
        stage = (col(Stage.job_id) == job_id, col(Stage.name) == name)
        with self.world.database.write() as session:
            session.connection().execute(update(Stage).where(*stage).values(**values))

    def set_job(self, job_id: str, **values: object) -> None:
        with self.world.database.write() as session:
            session.connection().execute(update(Job).where(col(Job.id) == job_id).values(**values))

    def write_log(self, job_id: str, lines: int) -> None:
        """Write so many log lines for the job's first stage."""
        with self.world.database.write() as session:
            unit = JobTransaction.open(session, self.world.database.now, job_id)
            unit.log(unit.stages[0], (f"line {n}" for n in range(lines)))

    def lines(self, job_id: str) -> list[int]:
        """Return the numbers of the job's log lines."""
        with self.world.database.read() as session:
            rows = select(StageLog.seq).where(StageLog.job_id == job_id).order_by(col(StageLog.seq))
            return list(session.exec(rows))

    def advance_days(self, days: float) -> None:
        """Advance the clock of the rows; `age_folder` does so for folders."""
        self.world.clock.advance(timedelta(days=days).total_seconds())

    def age_folder(self, folder: Path, days: float) -> Path:
        """Date the folder, and all in it, so many days back; return it."""
        moment = self.folders.now() - timedelta(days=days).total_seconds()
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (moment, moment))
        return folder

    def complete(self, claimed: ClaimedStage, content: str = "") -> ArtifactRef:
        """Publish an artifact and report the stage's end, as a worker does."""
        scratch = self.store.scratch(f"{claimed.stage_id}-{claimed.fence}")
        (scratch / "rows.jsonl").write_text(f"{claimed.key} {content}")
        manifest = self.store.publish(
            scratch,
            key=claimed.key,
            kind=claimed.parameters.kind,
            parameters=claimed.parameters.model_dump(mode="json"),
            inputs=claimed.inputs,
            result=StageResult(),
        )
        self.world.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))
        return manifest.ref

    def has_folder(self, ref: ArtifactRef) -> bool:
        """Return whether the artifact's folder exists."""
        return self.path(ref).is_dir()

    def path(self, ref: ArtifactRef) -> Path:
        return self.root / "artifacts" / folder_of(ref).name

    def has_row(self, ref: ArtifactRef) -> bool:
        """Return whether the artifact's row exists."""
        with self.world.database.read() as session:
            return session.exec(select(Artifact.key).where(Artifact.key == ref.key)).first() is not None

    def use(self, ref: ArtifactRef) -> Use:
        with self.world.database.read() as session:
            return uses(session, [ref.key])[ref.key]

    def scratch(self, stage_id: str, fence: int) -> Path:
        """Create an attempt's scratch folder, named as the worker names it."""
        folder = self.store.scratch(f"{stage_id}-{fence}")
        (folder / "rows.jsonl").write_text("half a row")
        return folder

    def trash(self) -> list[Path]:
        return list((self.root / "tmp").glob("trash-*"))

    def leave_trash(self) -> None:
        """Leave trash, as a collector does that was killed."""
        folder = self.root / "tmp" / f"trash-{uuid4().hex}" / "deep"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("0")


@contextmanager
def retention_rig(world: World) -> Iterator[RetentionRig]:
    """Open a rig over an empty folder, which is removed at the end."""
    with TemporaryDirectory() as folder:
        yield RetentionRig(world, Path(folder))
