"""One row that cannot be read keeps no other artifact from expiring, on SQLite and on PostgreSQL."""

from sqlalchemy import JSON, column, table, update
from tests.services.gateway.rigs.retention_rig import LIFETIMES, RetentionRig, retention_rig
from tests.services.gateway.rigs.world import World

from craft.contracts.events import StageStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import StageKind
from craft.core.strategies import Strategy
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.store.tables import Artifact

WHOLE_LIFE = 30.0


_UNCHECKED = table("artifact", column("key"), column("manifest", JSON), column("other_digests", JSON))


def spoil(rig: RetentionRig, ref: ArtifactRef, **values: object) -> None:
    """Write values past the columns' types, as an older version did."""
    with rig.world.database.write() as session:
        change = update(_UNCHECKED).where(_UNCHECKED.c.key == ref.key).values(**values)
        session.connection().execute(change)


def test_a_nul_in_a_manifest_keeps_nothing_from_expiring(world: World) -> None:
    with retention_rig(world) as rig:
        refs = [rig.artifact(name) for name in ("one", "two", "three")]
        rig.job(*refs)
        spoil(rig, refs[1], manifest={"kind": "score", "parameters": {"phrase": "no\0idea"}})
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert [rig.has_row(ref) for ref in refs] == [False] * 3


def test_a_row_that_cannot_be_read_is_counted_and_left_and_all_others_expire(world: World) -> None:
    skipped: list[bool] = []
    with retention_rig(world) as rig:
        refs = [rig.artifact(f"artifact {number}") for number in range(5)]
        rig.job(*refs)
        spoil(rig, refs[2], other_digests=["no digest"])
        rig.advance_days(WHOLE_LIFE)
        collector = GarbageCollector(
            world.database, rig.folders, LIFETIMES, page=2, on_skipped=lambda: skipped.append(True)
        )
        while collector.collect_page():
            pass
        assert [rig.has_row(ref) for ref in refs] == [False, False, True, False, False]
        assert skipped == [True]
        assert collector.dry_run().expired == []


def test_the_kind_of_a_row_of_an_older_version_is_its_stages(world: World) -> None:
    with retention_rig(world) as rig:
        ref = rig.publish("old", kind=StageKind.INGEST)
        with world.database.write() as session:
            session.add(Artifact(key=ref.key, digest=ref.digest, manifest={}, created_at=world.clock.now))
        rig.job(ref)
        rig.advance_days(WHOLE_LIFE)
        [expired] = rig.expired()
        assert (expired.key, expired.kind) == (ref.key, StageKind.INGEST)


def test_a_completed_stage_writes_the_kind_of_its_artifact(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = world.create(Strategy.VAN_TUNING)
        ref = rig.complete(world.claim(job_id, "ingest"))
        with world.database.read() as session:
            assert session.get_one(Artifact, ref.key).kind == StageKind.INGEST
        assert world.stage(job_id, "ingest").status is StageStatus.SUCCEEDED


def test_a_user_whose_lifetimes_are_tiny_loses_no_upload_that_is_on_its_way(world: World) -> None:
    tiny = LIFETIMES.model_copy(update={"orphan_days": 1e-6, "scratch_days": 1e-6})
    with retention_rig(world) as rig:
        upload, published = rig.store.scratch("dataset"), rig.publish("a dataset whose row comes in a moment")
        for folder in (upload, rig.path(published)):
            rig.age_folder(folder, days=10 / 86_400)
        rig.collect(tiny)
        assert (upload.exists(), rig.has_folder(published)) == (True, True)
        for folder in (upload, rig.path(published)):
            rig.age_folder(folder, days=2 / 24)
        rig.collect(tiny)
        assert (upload.exists(), rig.has_folder(published)) == (False, False)
