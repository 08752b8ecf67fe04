"""The same faults on PostgreSQL, and those that only a database server has. The tests own their server and crash it."""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session
from tests.chaos import test_outages as outages
from tests.chaos import test_processes as facts
from tests.chaos.faults.finished import Finished, finished
from tests.chaos.faults.invariants import violations
from tests.chaos.rig.databases import PostgresServer
from tests.chaos.rig.small import Small, small
from tests.chaos.test_invariants import MAX_ATTEMPTS, SPOILED, spoil_in
from tests.services.gateway.rigs.world import FakeBroker, FakeStore, postgres_world
from tests.tokens import WORKER_TOKEN

from craft.contracts.stages.claims import Claim
from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.store.database import Database
from craft_gateway.wiring_coordinator import coordinator_app

pytestmark = pytest.mark.servers

FACTS: list[Callable[[Small], None]] = [
    facts.test_a_killed_workers_stage_goes_to_another_worker_within_its_lease_and_goes_on_there,
    outages.test_locks_of_the_database_fail_no_job,
    outages.test_locks_of_one_job_fail_no_job,
    outages.test_outages_of_every_coordinator_fail_no_job,
    outages.test_outages_of_one_coordinator_fail_no_job,
    facts.test_when_everything_is_killed_the_stage_goes_on_once_everything_is_back,
]
CLAIM = Claim(owner="host-1-wrk_1", service=Service.DATASETS).model_dump_json()
HEADERS = {
    "Authorization": f"Bearer {WORKER_TOKEN.get_secret_value()}",
    "Content-Type": "application/json",
}
ANSWERED_SECONDS = 60.0
"""A statement's longest time, then that of a new connection, and some for a slow machine."""
CONNECTIONS = 15
"""As many as the pool ever opens."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    # pytest's own folders are closed to PostgreSQL's user.
    with TemporaryDirectory(prefix="craft-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            made = PostgresServer(folder / "postgresql", root=os.geteuid() == 0, logs=folder)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        yield made
        made.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, server: PostgresServer) -> Iterator[Small]:
    with small(tmp_path_factory.mktemp("small") / "state", server) as made:
        yield made


@pytest.mark.parametrize("fact", FACTS, ids=[fact.__name__ for fact in FACTS])
def test_it_holds_on_postgresql(fact: Callable[[Small], None], system: Small) -> None:
    fact(system)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crash_of_the_database_within_a_stage_loses_and_doubles_nothing(system: Small, seed: int) -> None:
    stage_id = system.submit()
    system.begun(stage_id)
    system.server.crash(random.Random(seed))
    assert told_to_come_back(ask(system.urls[0]))
    system.server.start()
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id).count("succeeded") == 1


def ask(url: str, stage_id: str = "stg_1") -> httpx.Response:
    """A worker's claim. Raises httpx.ReadTimeout where it waits longer than the database's longest patience."""
    address = f"{url}/internal/stages/{stage_id}/claim"
    return httpx.post(address, content=CLAIM, headers=HEADERS, timeout=ANSWERED_SECONDS)


def ask_both(system: Small, stage_id: str) -> list[httpx.Response]:
    """Both coordinators at once."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda url: ask(url, stage_id), system.urls))


def told_to_come_back(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (503, "unavailable") and int(
        answer.headers["Retry-After"]
    ) > 0


def test_while_the_database_is_frozen_callers_are_told_so_and_afterwards_the_stage_goes_on(system: Small) -> None:
    stage_id = system.submit()
    system.begun(stage_id)
    system.server.freeze()
    try:
        answers = ask_both(system, stage_id)
    finally:
        system.server.thaw()
    assert all(map(told_to_come_back, answers))
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id).count("succeeded") == 1
    # The loops that take back leases and send hints have come through it too.
    victim = system.begun(later := system.submit())
    victim.kill()
    assert system.begun(later, attempts=2) is not victim
    assert system.succeeded(later)


def test_while_somebody_holds_a_jobs_row_callers_are_told_so_and_afterwards_it_is_right(system: Small) -> None:
    wake = facts.idle(system)
    stage_id = system.submit()
    with system.look.database.write() as session:
        JobTransaction.open(session, system.look.database.now, system.stage(stage_id).job_id)
        answers = ask_both(system, stage_id)
    wake()
    assert all(map(told_to_come_back, answers))
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["succeeded"]


async def once(seconds: float) -> None:
    """No second step: one in a thread that outlives the application would leave its connection open."""
    await asyncio.Event().wait()


def test_without_a_free_connection_callers_are_told_to_come_back(system: Small, tmp_path: Path) -> None:
    database = Database(system.server.url)
    settings = Settings(state_dir=tmp_path, worker_token=WORKER_TOKEN)
    app = coordinator_app(database, exists=FakeStore(), queues=FakeBroker(), settings=settings, pause=once)
    with TestClient(app, base_url="http://127.0.0.1", headers=HEADERS) as http:
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(database.engine.connect())
            answer = http.post("/internal/stages/stg_1/claim", content=CLAIM)
            assert answer.status_code == 503
            assert "Retry-After" in answer.headers
        # The stage is not there, but now somebody looked.
        assert http.post("/internal/stages/stg_1/claim", content=CLAIM).status_code == 404


@pytest.fixture(scope="module")
def good(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    server.start()
    address = server.url.replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE spoiled")
    with postgres_world(server.url.replace("/postgres", "/spoiled")) as world:
        yield finished(world, tmp_path_factory.mktemp("artifacts"))


def broken(good: Finished, *statements: str) -> set[str]:
    """The names of the invariants that do not hold once these have been done; they are undone at once."""
    with Session(good.database.writer) as session:
        spoil_in(session, good, *statements)
        found = violations(session, accepted=[good.first, good.second], living=bool, most=MAX_ATTEMPTS)
        session.rollback()
    return {violation.invariant for violation in found}


def test_a_job_that_was_hurt_and_recovered_breaks_nothing_on_postgresql(good: Finished) -> None:
    assert broken(good) == set()


@pytest.mark.parametrize(("invariant", "statements"), SPOILED)
def test_a_spoiled_row_is_seen_on_postgresql_too(good: Finished, invariant: str, statements: tuple[str, ...]) -> None:
    assert invariant in broken(good, *statements)
