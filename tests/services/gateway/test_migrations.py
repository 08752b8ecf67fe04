"""Migrations make exactly the tables that the models describe, and can be undone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlmodel import SQLModel, select

from craft.infra.settings import Settings
from craft_gateway import migrate
from craft_gateway.database import Database
from craft_gateway.tables import Stage


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'folder' / 'craft.db'}")
    yield made
    made.close()


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def test_the_migrated_schema_is_what_the_models_say(database: Database) -> None:
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    assert differences == []


def test_every_index_of_the_models_exists_with_its_condition(database: Database) -> None:
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
        made = {row[0]: row[1] for row in rows}
    wanted = {str(index.name): index for table in SQLModel.metadata.tables.values() for index in table.indexes}
    assert made.keys() == wanted.keys()
    assert "WHERE status = 'running'" in made["uq_stage_running_key"]
    assert "WHERE sent_at IS NULL" in made["ix_outbox_unsent"]


def test_down_undoes_up_and_up_works_again(database: Database) -> None:
    migrate.upgrade(database)
    full = tables(database)
    migrate.downgrade(database)
    assert tables(database) == {"alembic_version"}
    migrate.upgrade(database)
    assert tables(database) == full


def test_a_database_of_the_first_schema_keeps_its_rows(database: Database) -> None:
    migrate.upgrade(database, "0001")
    with database.writer.begin() as connection:
        insert_stage(connection)
    migrate.upgrade(database)
    with database.read() as session:
        stage = session.exec(select(Stage)).one()
    assert (stage.id, stage.name, stage.device) == ("stg_1", "ingest", None)
    migrate.downgrade(database, "0001")
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
        " '{}', '[]', 'ready', 1, 0, 0, '2026-01-01 00:00:00.000000')"
    )


def test_a_database_is_current_only_after_the_migrations(database: Database) -> None:
    assert not migrate.is_current(database)
    migrate.upgrade(database)
    assert migrate.is_current(database)
    migrate.upgrade(database)
    assert migrate.is_current(database)


def test_the_command_migrates_the_database_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFT_STATE_DIR", str(tmp_path / "state"))
    migrate.main()
    database = Database(Settings().resolved_database_url)
    assert migrate.is_current(database)
    database.close()


def test_a_schema_that_is_newer_than_the_code_is_good_enough_for_it(database: Database) -> None:
    migrate.upgrade(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert migrate.is_current(database)


def test_a_schema_that_is_older_than_the_code_is_not(database: Database) -> None:
    migrate.upgrade(database, "0002")
    assert not migrate.is_current(database)
