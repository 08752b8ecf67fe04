"""A database that vanished or was replaced while the service runs is noticed, and nothing more is written to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from tests.services.gateway.rigs.postgres import URL
from tests.services.gateway.rigs.world import World, drop_everything

from craft.errors import Unavailable
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Team


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'craft.db'}")
    schema.upgrade(made)
    yield made
    made.close()


def add_team(database: Database, name: str = "alpha") -> None:
    with database.write() as session:
        session.add(Team(name=name, created_at=database.now(session)))


def move_away(folder: Path) -> Path:
    away = folder / "away"
    away.mkdir()
    for file in folder.glob("craft.db*"):
        file.rename(away / file.name)
    return away


def test_a_removed_file_makes_the_service_unready_and_takes_no_more_writes(database: Database, tmp_path: Path) -> None:
    add_team(database)
    assert schema.is_ready(database)
    move_away(tmp_path)
    with pytest.raises(Unavailable, match="removed") as unready:
        schema.is_ready(database)
    assert "put the database back" in (unready.value.hint or "")
    with pytest.raises(Unavailable, match="removed"):
        add_team(database, "beta")
    assert not (tmp_path / "craft.db").exists()


def test_a_file_that_is_put_back_is_used_again(database: Database, tmp_path: Path) -> None:
    for file in move_away(tmp_path).iterdir():
        file.rename(tmp_path / file.name)
    add_team(database)
    assert schema.is_ready(database)


def test_another_file_in_its_place_is_not_written_to(database: Database, tmp_path: Path) -> None:
    move_away(tmp_path)
    other = Database(f"sqlite:///{tmp_path / 'craft.db'}")
    schema.upgrade(other)
    with pytest.raises(Unavailable, match="replaced"):
        add_team(database)
    with pytest.raises(Unavailable, match="replaced"):
        schema.is_ready(database)
    with other.read() as session:
        assert session.get(Team, "alpha") is None
    other.close()


def test_no_new_connection_makes_an_empty_database_in_its_place(database: Database, tmp_path: Path) -> None:
    database.close()
    move_away(tmp_path)
    with pytest.raises(Unavailable, match="removed"), database.read() as session:
        session.get(Team, "alpha")
    assert not (tmp_path / "craft.db").exists()


def test_a_removal_during_a_write_is_told_to_the_writer(database: Database, tmp_path: Path) -> None:
    def write_meanwhile() -> None:
        with database.write() as session:
            session.add(Team(name="alpha", created_at=database.now(session)))
            move_away(tmp_path)

    with pytest.raises(Unavailable, match="removed"):
        write_meanwhile()


def test_an_error_of_a_statement_shows_no_values(database: Database) -> None:
    add_team(database, "a secret name")
    with pytest.raises(IntegrityError) as refused:
        add_team(database, "a secret name")
    assert "a secret name" not in str(refused.value)


def other_database(name: str) -> str:
    """The URL of another database of the same PostgreSQL, newly made."""
    server = Database(URL)
    with server.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        alone.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        alone.exec_driver_sql(f"CREATE DATABASE {name}")
    server.close()
    return make_url(URL).set(database=name).render_as_string(hide_password=False)


@pytest.mark.servers
@pytest.mark.skipif(not URL, reason="CRAFT_TEST_POSTGRES_URL is not set")
def test_a_postgresql_database_that_lost_its_tables_is_unavailable(postgres: World) -> None:
    assert schema.is_ready(postgres.database)
    drop_everything(postgres.database)
    assert not schema.is_ready(postgres.database)
    with pytest.raises(Unavailable, match="tables"):
        add_team(postgres.database)


@pytest.mark.servers
@pytest.mark.skipif(not URL, reason="CRAFT_TEST_POSTGRES_URL is not set")
def test_a_postgresql_database_that_was_made_anew_is_another_one() -> None:
    used = Database(other_database("craft_made_anew"))
    schema.upgrade(used)
    assert schema.is_ready(used)
    successor = Database(other_database("craft_made_anew"))
    schema.upgrade(successor)
    successor.close()
    with pytest.raises(Unavailable, match=r"made again|does not answer"):
        schema.is_ready(used)
    with pytest.raises(Unavailable, match="made again"):
        schema.is_ready(used)
    used.close()
