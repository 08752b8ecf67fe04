"""Two small jobs that have ended, with their artifacts on disk: what the invariants look at, made in a moment."""

from pathlib import Path
from typing import NamedTuple

from sqlmodel import select
from tests.services.gateway.rigs.world import SETTINGS, World, resolved

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Release
from craft.core.strategies import Strategy
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage


class Finished(NamedTuple):
    """`first` did every stage: its `lost` one took two attempts, its `released` one too. `second` reused them all."""

    database: Database
    artifacts: Path
    first: str
    second: str
    lost: str
    released: str


class _Hands:
    """Workers that write real artifacts."""

    def __init__(self, world: World, artifacts: Path) -> None:
        self.world = world
        self.store = FolderStore(artifacts)
        world.connect(self.store.holds)
        self.control = world.control
        self.calls = world.calls
        self.maintenance = world.maintenance

    def claim(self, stage: Stage) -> ClaimedStage:
        self.world.clock.advance(1)
        claimed = self.calls.claim(stage.id, Claim(owner="host-1-wrk_1", service=stage.queue))
        assert claimed is not None
        return claimed

    def complete(self, claimed: ClaimedStage) -> None:
        self.world.clock.advance(1)
        scratch = self.store.scratch(claimed.stage_id)
        (scratch / "text").write_text(claimed.key)
        parameters = claimed.parameters
        manifest = self.store.publish(
            scratch,
            key=claimed.key,
            kind=parameters.kind,
            parameters=parameters.model_dump(mode="json"),
            inputs=claimed.inputs,
            result=StageResult(),
        )
        self.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))

    def do_all(self, job_id: str) -> None:
        while not self.world.job(job_id).status.terminal:
            stage = next(stage for stage in self.world.stages(job_id).values() if stage.status == "ready")
            claimed = self.claim(stage)
            if stage.name == "ingest" and claimed.fence == 1:
                self.world.clock.advance(SETTINGS.lease_seconds + 1)
                assert self.maintenance.reap() == 1
            elif stage.name == "probe:initial" and claimed.fence == 1:
                self.calls.release(claimed.stage_id, Release(fence=claimed.fence))
            else:
                self.complete(claimed)


def finished(world: World, artifacts: Path) -> Finished:
    """Do the one job, then submit it again."""
    hands = _Hands(world, artifacts)
    job = resolved(Strategy.COR_RAIT)
    first = hands.control.create_job(job).id
    hands.do_all(first)
    second = hands.control.create_job(job).id
    with world.database.read() as session:
        ids = {stage.name: stage.id for stage in session.exec(select(Stage).where(Stage.job_id == first))}
    return Finished(world.database, artifacts, first, second, ids["ingest"], ids["probe:initial"])
