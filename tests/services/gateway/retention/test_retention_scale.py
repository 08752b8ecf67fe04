"""The sweep of a large store: every statement goes by an index, and a step looks at one page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, insert, text
from tests.services.gateway.rigs.retention_rig import Storeroom, storeroom
from tests.services.gateway.rigs.world import START, World, sha

from craft.contracts.stages.kinds import StageKind
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.store import Area
from craft_gateway.store.tables import Artifact

BIG_TABLES = ("stage", "stage_log", "job", "artifact", "dataset")


@contextmanager
def statements(world: World) -> Iterator[list[tuple[str, Any]]]:
    """All that is asked of the database meanwhile."""
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        asked.append((statement, parameters))

    event.listen(world.database.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(world.database.engine, "before_cursor_execute", note)


def plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    return [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def many_artifacts(room: Storeroom, count: int) -> None:
    manifest = {"kind": StageKind.SCORE.value}
    rows = [
        {"key": sha(str(n)), "digest": sha("x"), "manifest": manifest, "other_digests": [], "created_at": START}
        for n in range(count)
    ]
    with room.world.database.write() as session:
        session.connection().execute(insert(Artifact), rows)


def test_no_statement_of_a_sweep_reads_a_whole_table(world: World) -> None:
    with storeroom(world) as room:
        made = [room.artifact(name) for name in ("one", "two", "three")]
        for _ in range(30):
            room.says(room.job(*made), 3)
        for found in (room.publish("orphan"), room.publish("another")):
            room.aged(room.path(found), days=2)
        room.aged(room.store.checkpoint(sha("checkpoint")), days=8)
        room.aged(room.scratch(f"stg_{'0' * 26}", 1), days=2)
        with world.database.write() as session:
            session.connection().execute(text("ANALYZE"))
        room.days_pass(90)
        with statements(world) as asked:
            room.sweep()
        assert any("DELETE FROM stage_log" in statement for statement, _ in asked)
        looked = [found for found in asked if found[0].lstrip().upper().startswith(("SELECT", "DELETE"))]
        assert len(looked) > 10
        with world.database.engine.connect() as connection:
            for statement, parameters in looked:
                steps = plan(connection, statement, parameters)
                scans = [step for step in steps if any(step.startswith(f"SCAN {table}") for table in BIG_TABLES)]
                assert not scans, (statement, steps)


def test_a_step_looks_at_one_page_and_a_round_at_everything(world: World) -> None:
    with storeroom(world) as room:
        many_artifacts(room, 35)
        room.days_pass(1000)
        retention = room.retention(page=10)
        left = []
        while retention.sweep():
            with world.database.read() as session:
                left.append(session.connection().execute(text("SELECT count(*) FROM artifact")).scalar_one())
        assert left == [25, 15, 5, 0]


def test_a_step_removes_only_so_much(world: World) -> None:
    with storeroom(world) as room:
        many_artifacts(room, 120)
        room.days_pass(1000)
        retention = room.retention()
        left = []
        while retention.sweep():
            left.append(len(room.expired()))
        assert left[:3] == [70, 20, 0]


def test_what_is_young_costs_one_statement_a_page(world: World) -> None:
    with storeroom(world) as room:
        many_artifacts(room, 100)
        with statements(world) as asked:
            room.sweep(page=10)
        assert sum("FROM artifact" in statement for statement, _ in asked) == 11
        assert not any("FROM stage " in statement for statement, _ in asked)


def test_folders_are_looked_at_in_pages_too(world: World) -> None:
    with storeroom(world) as room:
        for n in range(10):
            room.aged(room.store.checkpoint(sha(str(n))), days=8)
        retention = room.retention(page=4)
        left = []
        while retention.sweep():
            left.append(len(list(room.swept.folders(Area.CHECKPOINTS))))
        assert left == [6, 2, 0]


def test_a_class_that_is_kept_for_ever_costs_no_look_at_its_folders(world: World) -> None:
    with storeroom(world) as room:
        for n in range(3):
            room.aged(room.store.checkpoint(sha(str(n))), days=1000)
        with statements(world) as asked:
            room.sweep(RetentionSettings(checkpoint_days=None))
        assert not any("FROM stage " in statement for statement, _ in asked)
        assert len(list(room.swept.folders(Area.CHECKPOINTS))) == 3
