"""Migrations create exactly the tables that the models describe, and can be undone."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, URL
from tests.services.gateway.rigs.world import drop_everything

from craft.errors import Conflict
from craft.infra.settings.settings import Settings
from craft_gateway import migrate
from craft_gateway.store import schema
from craft_gateway.store.database import Database

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


_OLD = {"at": datetime(2026, 1, 1, tzinfo=UTC), "digest": "d" * 64}
_JOB = """INSERT INTO job (id, task, resolved, status, labels, team, priority, percent, pinned, event_seq, log_seq,
created_at, updated_at)
VALUES ('cjob_1', 'open_ended', '{}', 'succeeded', '{}', 'default', 50, 0, false, 0, 0, :at, :at)"""
_STAGE = """INSERT INTO stage (id, job_id, name, kind, queue, position, rank, team, parameters, inputs, depends_on,
status, attempt, environment_retries, recompute, fence, artifact_key, reused, created_at)
VALUES ('stg_1', 'cjob_1', 'score', 'score', 'scoring', 0, 50, 'default', '{}', '{}', '[]',
'succeeded', 1, 0, false, 1, :key, false, :at)"""
_ARTIFACT = """INSERT INTO artifact (key, digest, manifest, other_digests, created_at)
VALUES (:key, :digest, :manifest, '[]', :at)"""


def test_artifacts_of_before_get_the_kinds_of_their_stages_whatever_their_manifests_hold(database: Database) -> None:
    schema.upgrade(database, "20261130_1")
    with database.writer.begin() as connection:
        connection.execute(text(_JOB), _OLD)
        connection.execute(text(_STAGE), {**_OLD, "key": "a" * 64})
        for key in ("a" * 64, "b" * 64):
            connection.execute(text(_ARTIFACT), {**_OLD, "key": key, "manifest": '{"kind": "\\u0000"}'})
    schema.upgrade(database)
    with database.engine.connect() as connection:
        kinds = connection.exec_driver_sql("SELECT kind FROM artifact ORDER BY key").scalars().all()
    assert kinds == ["score", None]


def of_tomorrow(database: Database) -> str:
    """Migrated by a version that this code knows nothing of; returns its revision."""
    schema.upgrade(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    return "9999"


@pytest.mark.parametrize("revision", ["0001", "0007"])
def test_a_schema_of_no_released_version_is_refused_with_what_to_do(database: Database, revision: str) -> None:
    schema.upgrade(database)
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    assert not schema.is_current(database)
    with pytest.raises(Conflict, match=revision) as refused:
        schema.upgrade(database)
    assert "remove the database" in (refused.value.hint or "")


def test_a_program_says_what_to_do_about_such_a_schema(database: Database) -> None:
    schema.upgrade(database)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(SystemExit, match=r"0003(.|\n)*remove the database"):
        schema.upgrade_or_exit(database)


def test_a_readiness_check_writes_no_log_line(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    schema.upgrade(database)
    with caplog.at_level(logging.INFO):
        assert schema.is_current(database)
    assert caplog.records == []


def test_a_schema_that_is_newer_than_the_code_is_good_enough_for_it(database: Database) -> None:
    of_tomorrow(database)
    assert schema.is_current(database)


def test_going_back_to_this_version_leaves_a_newer_schema_as_it_is(database: Database) -> None:
    newer = of_tomorrow(database)
    schema.upgrade(database)
    with database.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_heads() == (newer,)
