"""Damaged artifacts are kept for people to look at, counted, and removed after a time of their own."""

from prometheus_client import CollectorRegistry
from tests.infra.storage.damage import flip_a_byte
from tests.services.gateway.rigs.retention_rig import LIFETIMES, RetentionRig, retention_rig
from tests.services.gateway.rigs.world import World

from craft.contracts.stages.kinds import RetentionClass
from craft_gateway.metrics.gauges import DatabaseMetrics


def counted(rig: RetentionRig) -> float | None:
    registry = CollectorRegistry()
    registry.register(DatabaseMetrics(rig.world.database, rig.root))
    return registry.get_sample_value("craft_artifacts_damaged")


def set_aside(rig: RetentionRig) -> None:
    ref = rig.publish("damaged")
    flip_a_byte(rig.path(ref), "rows.jsonl")
    assert not rig.store.holds(ref)


def test_a_damaged_artifact_is_counted_until_it_expires_from_quarantine(world: World) -> None:
    with retention_rig(world) as rig:
        assert counted(rig) == 0
        set_aside(rig)
        assert counted(rig) == 1
        [aside] = (rig.root / "quarantine").iterdir()
        rig.age_folder(aside, days=29)
        rig.collect()
        assert aside.exists()
        rig.age_folder(aside, days=31)
        [expired] = rig.expired()
        assert (expired.retention_class, expired.kind) == (RetentionClass.DAMAGED, None)
        rig.collect()
        assert not aside.exists()
        assert counted(rig) == 0


def test_its_time_in_quarantine_begins_when_it_is_found(world: World) -> None:
    with retention_rig(world) as rig:
        ref = rig.publish("old")
        rig.age_folder(rig.path(ref), days=400)
        flip_a_byte(rig.path(ref), "rows.jsonl")
        assert not rig.store.holds(ref)
        rig.collect(LIFETIMES)
        assert counted(rig) == 1
