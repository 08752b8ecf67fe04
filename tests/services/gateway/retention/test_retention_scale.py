"""Garbage collection of a large store: every statement uses an index, and a step reads one page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, insert, text
from tests.services.gateway.rigs.retention_rig import RetentionRig, retention_rig
from tests.services.gateway.rigs.world import START, World, sha

from craft.contracts.stages.kinds import StageKind
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.store import Area
from craft_gateway.store.tables import Artifact

BIG_TABLES = ("stage", "stage_log", "job", "artifact", "dataset")


@contextmanager
def statements(world: World) -> Iterator[list[tuple[str, Any]]]:
    """Record every statement that the database executes."""
    executed: list[tuple[str, Any]] = []

    def record(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        executed.append((statement, parameters))

    event.listen(world.database.engine, "before_cursor_execute", record)
    try:
        yield executed
    finally:
        event.remove(world.database.engine, "before_cursor_execute", record)


def plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    return [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def many_artifacts(rig: RetentionRig, count: int) -> None:
    same = {"digest": sha("x"), "kind": StageKind.SCORE.value, "manifest": {}, "other_digests": [], "created_at": START}
    rows = [{"key": sha(str(n)), **same} for n in range(count)]
    with rig.world.database.write() as session:
        session.connection().execute(insert(Artifact), rows)


def test_no_statement_of_a_sweep_reads_a_whole_table(world: World) -> None:
    with retention_rig(world) as rig:
        made = [rig.artifact(name) for name in ("one", "two", "three")]
        for _ in range(30):
            rig.write_log(rig.job(*made), 3)
        for ref in (rig.publish("orphan"), rig.publish("another")):
            rig.age_folder(rig.path(ref), days=2)
        rig.age_folder(rig.store.checkpoint(sha("checkpoint")), days=8)
        rig.age_folder(rig.scratch(f"stg_{'0' * 26}", 1), days=2)
        with world.database.write() as session:
            session.connection().execute(text("ANALYZE"))
        rig.advance_days(90)
        with statements(world) as executed:
            rig.collect()
        assert any("DELETE FROM stage_log" in statement for statement, _ in executed)
        checked = [entry for entry in executed if entry[0].lstrip().upper().startswith(("SELECT", "DELETE"))]
        assert len(checked) > 10
        with world.database.engine.connect() as connection:
            for statement, parameters in checked:
                steps = plan(connection, statement, parameters)
                scans = [step for step in steps if any(step.startswith(f"SCAN {table}") for table in BIG_TABLES)]
                assert not scans, (statement, steps)


def test_a_step_looks_at_one_page_and_a_round_at_everything(world: World) -> None:
    with retention_rig(world) as rig:
        many_artifacts(rig, 35)
        rig.advance_days(1000)
        collector = rig.collector(page=10)
        left = []
        while collector.collect_page():
            with world.database.read() as session:
                left.append(session.connection().execute(text("SELECT count(*) FROM artifact")).scalar_one())
        assert left == [25, 15, 5, 0]


def test_a_step_removes_only_so_much(world: World) -> None:
    with retention_rig(world) as rig:
        many_artifacts(rig, 120)
        rig.advance_days(1000)
        collector = rig.collector()
        left = []
        while collector.collect_page():
            left.append(len(rig.expired()))
        assert left[:3] == [70, 20, 0]


def test_what_is_young_costs_one_statement_a_page(world: World) -> None:
    with retention_rig(world) as rig:
        many_artifacts(rig, 100)
        with statements(world) as executed:
            rig.collect(page=10)
        assert sum("FROM artifact" in statement for statement, _ in executed) == 11
        assert not any("FROM stage " in statement for statement, _ in executed)


def test_folders_are_looked_at_in_pages_too(world: World) -> None:
    with retention_rig(world) as rig:
        for n in range(10):
            rig.age_folder(rig.store.checkpoint(sha(str(n))), days=8)
        collector = rig.collector(page=4)
        left = []
        while collector.collect_page():
            left.append(len(list(rig.folders.folders(Area.CHECKPOINTS))))
        assert left == [6, 2, 0]


def test_a_class_that_is_kept_for_ever_costs_no_look_at_its_folders(world: World) -> None:
    with retention_rig(world) as rig:
        for n in range(3):
            rig.age_folder(rig.store.checkpoint(sha(str(n))), days=1000)
        with statements(world) as executed:
            rig.collect(RetentionSettings(checkpoint_days=None))
        assert not any("FROM stage " in statement for statement, _ in executed)
        assert len(list(rig.folders.folders(Area.CHECKPOINTS))) == 3
