"""How long an answer of PostgreSQL is waited for. A server that really is frozen: `tests/chaos/test_postgres`."""

import pytest
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL
from tests.services.gateway.rigs.world import World

from craft.errors import Unavailable
from craft_gateway.store.postgresql import TimedConnection, without_statement_timeout

pytestmark = ON_POSTGRESQL


@pytest.fixture
def postgres(postgres: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One whose answers are not waited for long."""
    monkeypatch.setattr(TimedConnection, "answer_seconds", 0.5)
    return postgres


def test_an_answer_that_takes_too_long_is_none_and_the_next_question_gets_its_own(postgres: World) -> None:
    with pytest.raises(Unavailable), postgres.database.read() as session:
        session.connection().exec_driver_sql("SELECT 1 FROM pg_sleep(3)")
    with postgres.database.read() as session:
        assert session.connection().exec_driver_sql("SELECT 2").scalar_one() == 2


def test_a_migration_may_take_its_time_and_what_comes_after_it_may_not(postgres: World) -> None:
    with postgres.database.writer.begin() as connection, without_statement_timeout(connection):
        connection.exec_driver_sql("SELECT pg_sleep(1)")
    with pytest.raises(Unavailable), postgres.database.read() as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(3)")
