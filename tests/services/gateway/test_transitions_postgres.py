"""The same facts on PostgreSQL, where writers really run at once. CRAFT_TEST_POSTGRES_URL names an empty database."""

import os
from collections.abc import Callable, Iterator
from inspect import signature

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlmodel import SQLModel
from tests.services.gateway import test_fair_share as share_facts
from tests.services.gateway import test_retention as retention_facts
from tests.services.gateway import test_transitions as facts
from tests.services.gateway import test_transitions_pause as pause_facts
from tests.services.gateway import test_transitions_relay as relay_facts
from tests.services.gateway.world import World, postgres_world

from craft_gateway import migrate
from craft_gateway.database import database_clock

URL = os.environ.get("CRAFT_TEST_POSTGRES_URL")
pytestmark = [pytest.mark.servers, pytest.mark.skipif(URL is None, reason="CRAFT_TEST_POSTGRES_URL is not set")]

FACTS: list[Callable[[World], None]] = [
    fact
    for module in (facts, relay_facts, retention_facts, pause_facts, share_facts)
    for name, fact in vars(module).items()
    if name.startswith("test_") and set(signature(fact).parameters) == {"world"}
]


@pytest.fixture
def postgres() -> Iterator[World]:
    with postgres_world(URL or "") as world:
        yield world


@pytest.mark.parametrize("fact", FACTS, ids=[fact.__name__ for fact in FACTS])
def test_it_holds_on_postgresql(fact: Callable[[World], None], postgres: World) -> None:
    fact(postgres)


def test_the_migrated_schema_is_what_the_models_say_on_postgresql(postgres: World) -> None:
    with postgres.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    migrate.downgrade(postgres.database)
    assert not migrate.is_current(postgres.database)


def test_postgresqls_clock_moves_within_a_transaction(postgres: World) -> None:
    with postgres.database.read() as session:
        assert database_clock(session) < database_clock(session)
