"""A disk that is full to the last block, on a small tmpfs that only root may mount."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlmodel import col
from tests.chaos.rig.databases import SqliteFile
from tests.chaos.rig.disks import SmallDisk
from tests.chaos.rig.small import Small, small
from tests.services.gateway.rigs.world import World, new_world

from craft.core.strategies import Strategy
from craft.errors import Unavailable
from craft_gateway.store.tables import Outbox, Stage


def mounted(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    with SmallDisk(folder, megabytes=megabytes) as disk:
        if not disk.mounted:
            pytest.skip(f"no small disk: {disk.reason}")
        yield disk
        disk.free()


@pytest.fixture
def artifacts(tmp_path: Path) -> Iterator[SmallDisk]:
    yield from mounted(tmp_path / "state" / "artifacts", 16)


@pytest.fixture
def system(tmp_path: Path, artifacts: SmallDisk) -> Iterator[Small]:
    with small(tmp_path / "state", SqliteFile(tmp_path / "state")) as made:
        yield made


def test_a_stage_that_finds_the_disk_full_waits_for_space_and_leaves_no_part(
    system: Small, artifacts: SmallDisk
) -> None:
    stage_id = system.submit()
    system.begun(stage_id)
    artifacts.fill()
    system.go()
    system.until(lambda: system.stage(stage_id).status == "ready")
    stage = system.stage(stage_id)
    assert (stage.error or {})["code"] == "disk_full"
    # It is the disk's fault and no attempt's.
    assert stage.attempt == 1
    assert not list((system.state / "artifacts" / "artifacts").glob(f"{stage.key}-*"))
    artifacts.free()
    the_pause_is_over(system, stage_id)
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["failed", "succeeded"]
    assert system.broken() == []


def the_pause_is_over(system: Small, stage_id: str) -> None:
    with system.look.database.write() as session:
        now = system.look.database.now(session)
        connection = session.connection()
        connection.execute(update(Stage).where(col(Stage.id) == stage_id).values(not_before=now, dispatch_at=now))
        connection.execute(update(Outbox).where(col(Outbox.stage_id) == stage_id).values(due_at=now))


@pytest.fixture
def database_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    yield from mounted(tmp_path / "disk", 4)


@pytest.fixture
def world_on_it(tmp_path: Path, database_disk: SmallDisk) -> Iterator[World]:
    folder = tmp_path / "disk" / "world"
    folder.mkdir()
    with new_world(folder) as made:
        yield made


def fill_up(world: World) -> None:
    for seed in range(100):
        world.create(Strategy.COR_RAIT, seed=seed)


def test_a_database_without_space_refuses_keeps_what_it_has_and_goes_on_with_space(
    world_on_it: World, database_disk: SmallDisk
) -> None:
    world = world_on_it
    kept = world.create(Strategy.COR_RAIT)
    database_disk.fill()
    with pytest.raises(Unavailable):
        fill_up(world)
    database_disk.free()
    world.do(kept, "ingest")
    with world.database.read() as session:
        assert session.connection().execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
