"""Migrations make exactly the tables that the models describe, keep the rows that are there, and can be undone."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, DateTime, MetaData, inspect
from sqlmodel import SQLModel, select
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, URL
from tests.services.gateway.rigs.world import FakeClock, World, drop_everything, sha

from craft.contracts.events import EventType, StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import Manifest, StageResult
from craft.contracts.stages.claims import Complete, Renew, StageProgress
from craft.infra.settings.settings import Settings
from craft_gateway import migrate
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage

CONDITIONS = {
    "uq_stage_running_key": "status = 'running'",
    "ix_outbox_unsent": "sent_at IS NULL",
    "ix_attempt_running": "ended_at IS NULL",
    "ix_webhook_delivery_due": "ended_at IS NULL",
    "ix_webhook_delivery_unsent": "ended_at IS NULL",
}
"""Which rows an index is of, where it is not of all."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_POSTGRESQL)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'folder' / 'craft.db'}")
    else:
        made = Database(URL)
        drop_everything(made)
    yield made
    made.close()


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def indexes(database: Database) -> dict[str, str]:
    """By name, the condition of each index that is not a constraint's."""
    seen = inspect(database.engine)
    found = [
        index
        for table in seen.get_table_names()
        for index in seen.get_indexes(table)
        if "duplicates_constraint" not in index
    ]
    where = f"{database.engine.dialect.name}_where"
    return {str(index["name"]): plain(index.get("dialect_options", {}).get(where, "")) for index in found}


def plain(condition: object) -> str:
    """As it was written: PostgreSQL adds types and brackets."""
    return re.sub(r"::\w+|[()]", "", str(condition))


def test_the_migrated_schema_is_what_the_models_say(database: Database) -> None:
    schema.upgrade(database)
    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    assert differences == []


def test_every_index_of_the_models_exists_with_its_condition(database: Database) -> None:
    schema.upgrade(database)
    wanted = [str(index.name) for table in SQLModel.metadata.tables.values() for index in table.indexes]
    assert indexes(database) == {name: CONDITIONS.get(name, "") for name in wanted}


def test_down_undoes_up_and_up_works_again(database: Database) -> None:
    schema.upgrade(database)
    full, indexed = tables(database), indexes(database)
    schema.downgrade(database)
    assert tables(database) == {"alembic_version"}
    assert not schema.is_current(database)
    schema.upgrade(database)
    assert (tables(database), indexes(database)) == (full, indexed)


def test_a_database_of_the_first_schema_keeps_its_rows_up_and_down_and_up_again(database: Database) -> None:
    schema.upgrade(database, "0001")
    with database.writer.begin() as connection:
        insert_stage(connection)
    for _ in range(2):
        schema.upgrade(database)
        with database.read() as session:
            stage = session.exec(select(Stage)).one()
        assert (stage.id, stage.name, stage.device, stage.team) == ("stg_1", "ingest", None, "default")
        schema.downgrade(database, "0001")
        assert "device" not in {column["name"] for column in inspect(database.engine).get_columns("stage")}
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT id, name FROM stage").all() == [("stg_1", "ingest")]


def insert_stage(connection: Connection) -> None:
    """A job with one stage, in the first schema's own words."""
    connection.exec_driver_sql(
        "INSERT INTO job (id, task, resolved, status, labels, priority, percent, event_seq, log_seq, created_at,"
        " updated_at) VALUES ('cjob_1', 'open_ended', '{}', 'running', '{}', 50, 0, 0, 0, '2026-01-01', '2026-01-01')"
    )
    connection.exec_driver_sql(
        "INSERT INTO stage (id, job_id, name, kind, queue, position, rank, parameters, inputs, depends_on, status,"
        " attempt, fence, reused, created_at) VALUES ('stg_1', 'cjob_1', 'ingest', 'ingest', 'datasets', 0, 50, '{}',"
        " '{}', '[]', 'ready', 1, 0, false, '2026-01-01 00:00:00.000000')"
    )


# The version before this one had a stage in a worker's hands when the database was migrated.

WRITTEN_BEFORE = Path(__file__).with_name("rows_of_0002.json")
"""By table, what the code whose newest revision was 0002 wrote of a job whose second stage runs."""


def write_as_before(database: Database) -> dict[str, Any]:
    """The rows of then in the schema of then; returns the running stage's."""
    rows: dict[str, list[dict[str, Any]]] = json.loads(WRITTEN_BEFORE.read_text())
    schema.upgrade(database, "0002")
    then = MetaData()
    with database.writer.begin() as connection:
        then.reflect(connection)
        for name, of_table in rows.items():
            times = {column.name for column in then.tables[name].columns if isinstance(column.type, DateTime)}
            for row in of_table:
                read = {key: moment(value) if key in times else value for key, value in row.items()}
                connection.execute(then.tables[name].insert().values(read))
    (running,) = [row for row in rows["stage"] if row["status"] == "running"]
    return running


def moment(shown: str | None) -> datetime | None:
    return datetime.fromisoformat(shown).replace(tzinfo=UTC) if shown else None


def made_by(stage: dict[str, Any]) -> Manifest:
    """What the worker publishes that has had the stage since then."""
    return Manifest(
        key=stage["key"],
        digest=sha("made over the migration"),
        kind=stage["kind"],
        code_version=1,
        parameters=stage["parameters"],
        inputs={},
        files=[],
        result=StageResult(),
    )


def test_what_runs_while_the_database_is_migrated_is_renewed_completed_and_followed(database: Database) -> None:
    running = write_as_before(database)
    schema.upgrade(database)
    clock = FakeClock()
    with closing(Database(database.url, clock=clock)) as today:
        world = World(today, clock)
        clock.advance(30)
        report = Renew(fence=running["fence"], progress=StageProgress(done=1, total=2), log_lines=["a line"])
        assert not world.calls.renew(running["id"], report).stop
        manifest = made_by(running)
        world.store.publish(manifest.ref)
        world.calls.complete(running["id"], Complete(fence=running["fence"], manifest=manifest))
        assert world.stage(running["job_id"], running["name"]).artifact == manifest.ref
        world.do_all(running["job_id"])
        assert world.job(running["job_id"]).status is JobStatus.SUCCEEDED
        told = world.events(running["job_id"])
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert told[-1].type is EventType.JOB_SUCCEEDED


def test_a_worker_that_is_lost_over_the_migration_is_missed(database: Database) -> None:
    running = write_as_before(database)
    schema.upgrade(database)
    clock = FakeClock()
    with closing(Database(database.url, clock=clock)) as today:
        world = World(today, clock)
        clock.advance(17 + 91)
        assert world.maintenance.reap() == 1
        stage = world.stage(running["job_id"], running["name"])
    assert (stage.status, stage.attempt) == (StageStatus.READY, 2)


def test_a_database_is_current_only_after_the_migrations(database: Database) -> None:
    assert not schema.is_current(database)
    schema.upgrade(database)
    assert schema.is_current(database)
    schema.upgrade(database)
    assert schema.is_current(database)


def test_the_command_migrates_the_database_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFT_STATE_DIR", str(tmp_path / "state"))
    migrate.main()
    with closing(Database(Settings().resolved_database_url)) as made:
        assert schema.is_current(made)


def of_tomorrow(database: Database) -> str:
    """Migrated by a version that this code knows nothing of; returns its revision."""
    schema.upgrade(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    return "9999"


def test_a_schema_that_is_newer_than_the_code_is_good_enough_for_it(database: Database) -> None:
    of_tomorrow(database)
    assert schema.is_current(database)


def test_going_back_to_this_version_leaves_a_newer_schema_as_it_is(database: Database) -> None:
    newer = of_tomorrow(database)
    schema.upgrade(database)
    with database.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_heads() == (newer,)


def test_a_schema_that_is_older_than_the_code_is_not(database: Database) -> None:
    schema.upgrade(database, "0002")
    assert not schema.is_current(database)
