"""A store of real folders under a world, with jobs and artifacts whose last use is as long ago as a fact wants."""

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
from craft.core.selection import Strategy
from craft.infra.settings.coordinator import RetentionSettings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.reuse import exists_in
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.retention.expiry import Expired, Expiry
from craft_gateway.retention.store import ArtifactFolders, CollectableStore, folder_of
from craft_gateway.retention.uses import Use, uses
from craft_gateway.store.tables import Artifact, Job, Stage, StageLog

LIFETIMES = RetentionSettings()


class Storeroom:
    """What a sweep meets, and short words for what a fact needs of it."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root
        self.store = FolderStore(root)
        self.swept = ArtifactFolders(root)
        world.connect(exists_in(self.store))

    def retention(
        self, settings: RetentionSettings = LIFETIMES, *, store: CollectableStore | None = None, page: int = 500
    ) -> GarbageCollector:
        return GarbageCollector(self.world.database, store or self.swept, settings, page=page)

    def expired(self) -> list[Expired]:
        """What a round sees, as a sweep does before it removes anything."""
        pages = Expiry(self.world.database, self.swept, LIFETIMES).pages()
        return [expired for page in pages for expired in page]

    def sweep(self, settings: RetentionSettings = LIFETIMES, *, page: int = 500) -> None:
        """A whole round."""
        retention = self.retention(settings, page=page)
        while retention.sweep():
            pass

    def publish(self, name: str, *, kind: StageKind = StageKind.SCORE, key: str | None = None) -> ArtifactRef:
        """A folder in the store that no row knows."""
        scratch = self.store.scratch("by hand")
        (scratch / "rows.jsonl").write_text(name)
        manifest = self.store.publish(
            scratch, key=key or sha(name), kind=kind, parameters={}, inputs={}, result=StageResult()
        )
        return manifest.ref

    def artifact(self, name: str, *, kind: StageKind = StageKind.SCORE) -> ArtifactRef:
        """An artifact with its row, made now, that no stage uses."""
        ref = self.publish(name, kind=kind)
        manifest = self.store.manifest(ref).model_dump(mode="json")
        with self.world.database.write() as session:
            session.add(Artifact(key=ref.key, digest=ref.digest, manifest=manifest, created_at=self.world.clock.now))
        return ref

    def job(self, *made: ArtifactRef, ended: bool = True) -> str:
        """A job whose first stages made, or took over, these; it ends now unless told otherwise."""
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

    def says(self, job_id: str, lines: int) -> None:
        """The job's first stage writes so many lines."""
        with self.world.database.write() as session:
            unit = JobTransaction.open(session, self.world.database.now, job_id)
            unit.log(unit.stages[0], (f"line {n}" for n in range(lines)))

    def lines(self, job_id: str) -> list[int]:
        """The numbers of the log lines that the job has."""
        with self.world.database.read() as session:
            rows = select(StageLog.seq).where(StageLog.job_id == job_id).order_by(col(StageLog.seq))
            return list(session.exec(rows))

    def days_pass(self, days: float) -> None:
        """For rows; folders get `aged`."""
        self.world.clock.advance(timedelta(days=days).total_seconds())

    def aged(self, folder: Path, days: float) -> Path:
        """The same folder, with all in it changed so many days ago."""
        moment = self.swept.now() - timedelta(days=days).total_seconds()
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (moment, moment))
        return folder

    def complete(self, claimed: ClaimedStage, content: str = "") -> ArtifactRef:
        """Publish and report as a worker does."""
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

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether the folder is there."""
        return self.path(ref).is_dir()

    def path(self, ref: ArtifactRef) -> Path:
        return self.root / "artifacts" / folder_of(ref).name

    def knows(self, ref: ArtifactRef) -> bool:
        """Whether the row is there."""
        with self.world.database.read() as session:
            return session.exec(select(Artifact.key).where(Artifact.key == ref.key)).first() is not None

    def use(self, ref: ArtifactRef) -> Use:
        with self.world.database.read() as session:
            return uses(session, [ref.key])[ref.key]

    def scratch(self, stage_id: str, fence: int) -> Path:
        """What an attempt left, as the worker names it."""
        folder = self.store.scratch(f"{stage_id}-{fence}")
        (folder / "rows.jsonl").write_text("half a row")
        return folder

    def trash(self) -> list[Path]:
        return list((self.root / "tmp").glob("trash-*"))

    def left_trash(self) -> None:
        """What a sweep that was killed leaves."""
        folder = self.root / "tmp" / f"trash-{uuid4().hex}" / "deep"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("0")


@contextmanager
def storeroom(world: World) -> Iterator[Storeroom]:
    """Over an empty folder, gone at the end."""
    with TemporaryDirectory() as folder:
        yield Storeroom(world, Path(folder))
