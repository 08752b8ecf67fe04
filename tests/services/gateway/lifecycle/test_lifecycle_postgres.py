"""The same facts on PostgreSQL, where writers really run at once. CRAFT_TEST_POSTGRES_URL names an empty database."""

from collections.abc import Callable
from inspect import signature

import pytest
from tests.services.gateway.lifecycle import test_creation as together_facts
from tests.services.gateway.lifecycle import test_damage as damage_facts
from tests.services.gateway.lifecycle import test_dispatch as relay_facts
from tests.services.gateway.lifecycle import test_limits as limit_facts
from tests.services.gateway.lifecycle import test_pause as pause_facts
from tests.services.gateway.lifecycle import test_transitions as facts
from tests.services.gateway.retention import test_retention as retention_facts
from tests.services.gateway.retention import test_unreadable_rows as unreadable_facts
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL
from tests.services.gateway.rigs.world import World
from tests.services.gateway.scheduling import test_fair_share as share_facts

from craft_gateway.store.database import database_clock

pytestmark = ON_POSTGRESQL

FACTS: list[Callable[[World], None]] = [
    fact
    for module in (
        facts,
        relay_facts,
        retention_facts,
        unreadable_facts,
        damage_facts,
        limit_facts,
        pause_facts,
        share_facts,
        together_facts,
    )
    for name, fact in vars(module).items()
    if name.startswith("test_") and set(signature(fact).parameters) == {"world"}
]


@pytest.mark.parametrize("fact", FACTS, ids=[fact.__name__ for fact in FACTS])
def test_it_holds_on_postgresql(fact: Callable[[World], None], postgres: World) -> None:
    fact(postgres)


def test_postgresqls_clock_moves_within_a_transaction(postgres: World) -> None:
    with postgres.database.read() as session:
        assert database_clock(session) < database_clock(session)
