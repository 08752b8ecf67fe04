"""An outage of the coordinator or of the database is charged to nobody, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, URL, fail_lock_waits
from tests.services.gateway.rigs.world import LOOKS_SECONDS, SETTINGS, World, new_world, postgres_world

from craft.contracts.events import EventType, StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.claims import Claim, ClaimedStage, Renew, StageProgress
from craft.errors import Unavailable, WorkerLost
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.maintenance import Maintenance
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.store.database import Database

TERM = SETTINGS.lease_seconds + 1
OUTAGES = 5
"""More than a stage has attempts."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_POSTGRESQL)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path) if request.param == "sqlite" else postgres_world(URL) as made:
        yield made


class Peer:
    """Another coordinator over the same database, with its own connections and threads."""

    def __init__(self, world: World) -> None:
        self.database = Database(world.database.url, clock=world.clock)
        self.calls = WorkerCalls(self.database, exists=world.store, settings=SETTINGS)
        self.maintenance = Maintenance(self.database, self.calls, settings=SETTINGS, monotonic=world.clock.monotonic)
        self.maintenance.watch()

    def claim(self, world: World, job_id: str) -> ClaimedStage:
        stage = world.stage(job_id, "ingest")
        claimed = self.calls.claim(stage.id, Claim(owner="the peer's worker", service=stage.queue))
        assert claimed is not None
        return claimed


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    made = Peer(world)
    yield made
    made.database.close()


def renew(world: World, claimed: ClaimedStage, *, done: int | None = None) -> None:
    progress = None if done is None else StageProgress(done=done, total=100)
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=progress))


def reclaimed(world: World, job_id: str) -> str:
    """Reclaim the silent worker's stage; returns the code of its attempt's error."""
    assert world.maintenance.reap() == 1
    error = world.attempts(job_id)[-1].error
    assert error is not None
    return str(error["code"])


@contextmanager
def locked(world: World, job_id: str) -> Iterator[None]:
    """Somebody holds SQLite's one lock, or the job's row on PostgreSQL; waits for it are short."""
    holder = Database(world.database.url)
    if world.database.is_sqlite:
        event.listen(world.database.engine, "begin", _do_not_wait)
    else:
        fail_lock_waits(world.database)
    try:
        with holder.write() as session:
            JobTransaction.open(session, holder.now, job_id)
            yield
    finally:
        holder.close()


def _do_not_wait(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA busy_timeout=50")


# A term after an outage


def test_a_coordinator_that_was_away_gives_every_lease_a_term_before_it_takes_one_back(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    for _ in range(OUTAGES):
        world.clock.advance(1)
        world.clock.away(TERM)
        assert world.maintenance.reap() == 0
        world.clock.advance(SETTINGS.lease_seconds - 1)
        assert world.maintenance.reap() == 0
        renew(world, claimed)
    world.complete(claimed)


def test_a_coordinator_that_starts_gives_every_lease_a_term_before_it_takes_one_back(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.clock.away(TERM)
    world.connect(world.store)
    assert world.maintenance.reap() == 0
    world.clock.advance(SETTINGS.lease_seconds - 1)
    assert world.maintenance.reap() == 0


def test_outages_of_the_coordinator_fail_no_job_whose_workers_gave_up_meanwhile(world: World) -> None:
    job_id = world.create()
    for _ in range(OUTAGES):
        world.claim(job_id, "ingest")
        world.clock.away(66)
        world.clock.advance(TERM)
        assert reclaimed(world, job_id) == "unavailable"
    stage = world.stage(job_id, "ingest")
    assert (stage.status, stage.attempt, stage.lost_attempts) == (StageStatus.READY, 1, 0)
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_restarts_of_the_coordinator_fail_no_job_whose_workers_gave_up_meanwhile(world: World) -> None:
    job_id = world.create()
    for _ in range(OUTAGES):
        world.claim(job_id, "ingest")
        world.clock.away(1)
        world.connect(world.store)
        world.clock.advance(TERM)
        assert reclaimed(world, job_id) == "unavailable"
    assert world.stage(job_id, "ingest").lost_attempts == 0


def test_users_are_told_that_an_outage_is_not_counted(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.clock.away(66)
    world.clock.advance(TERM)
    world.maintenance.reap()
    retried = world.events(job_id)[-1]
    assert (retried.type, retried.data["attempt"]) == (EventType.STAGE_RETRIED, 1)
    assert retried.data["error"]["hint"] == (
        "Nothing needs to be done: the stage runs again, and the attempt is not counted."
    )


# The worker itself


def test_a_worker_that_falls_silent_beside_a_living_coordinator_is_charged(world: World) -> None:
    job_id = world.create()
    for _ in range(SETTINGS.max_lost_attempts):
        renew(world, world.claim(job_id, "ingest"))
        world.clock.advance(TERM)
        assert reclaimed(world, job_id) == "worker_lost"
    assert world.job(job_id).status is JobStatus.FAILED


def test_a_worker_that_was_heard_after_an_outage_and_then_falls_silent_is_charged(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.clock.away(66)
    world.clock.advance(5)
    renew(world, claimed)
    world.clock.advance(TERM)
    assert reclaimed(world, job_id) == "worker_lost"


@pytest.mark.parametrize("before", [0, 1, 2])
def test_an_outage_neither_adds_to_nor_forgives_what_was_charged_before(world: World, before: int) -> None:
    job_id = world.create()
    for _ in range(before):
        world.fail(world.claim(job_id, "ingest"), WorkerLost("killed"))
        world.clock.advance(60)
    world.claim(job_id, "ingest")
    world.clock.away(66)
    world.clock.advance(TERM)
    assert reclaimed(world, job_id) == "unavailable"
    assert world.stage(job_id, "ingest").lost_attempts == before


# The database's own lock


def test_a_worker_whose_renewals_the_database_refused_is_not_charged(world: World) -> None:
    job_id = world.create()
    for _ in range(OUTAGES):
        claimed = world.claim(job_id, "ingest")
        with locked(world, job_id):
            for _ in range(6):
                world.clock.away(LOOKS_SECONDS)
                with pytest.raises(Unavailable):
                    renew(world, claimed)
                # On SQLite the coordinator cannot write either; on PostgreSQL only this job is locked.
                if world.database.is_sqlite:
                    with pytest.raises(Unavailable):
                        world.maintenance.reap()
                else:
                    assert world.maintenance.reap() == 0
        world.clock.advance(TERM)
        assert reclaimed(world, job_id) == "unavailable"
    assert world.stage(job_id, "ingest").lost_attempts == 0


def test_a_lease_that_ends_while_the_database_refuses_to_end_it_gets_another_term(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.clock.advance(TERM)
    with locked(world, job_id), pytest.raises(Unavailable):
        world.maintenance.reap()
    world.clock.advance(SETTINGS.lease_seconds - 1)
    assert world.maintenance.reap() == 0
    renew(world, claimed)
    world.complete(claimed)


# Several coordinators


def test_a_worker_whose_own_coordinator_fell_silent_is_not_charged_by_another(world: World, peer: Peer) -> None:
    job_id = world.create()
    for _ in range(OUTAGES):
        peer.maintenance.watch()
        peer.claim(world, job_id)
        world.clock.advance(TERM)
        assert reclaimed(world, job_id) == "unavailable"
    assert world.stage(job_id, "ingest").lost_attempts == 0


def test_a_worker_that_falls_silent_is_charged_by_another_coordinator_while_its_own_lives(
    world: World, peer: Peer
) -> None:
    job_id = world.create()
    both(world, peer)
    peer.claim(world, job_id)
    world.clock.advance(TERM)
    assert reclaimed(world, job_id) == "worker_lost"


def test_a_coordinator_that_comes_back_before_the_lease_ends_was_silent_all_the_same(world: World, peer: Peer) -> None:
    job_id = world.create()
    peer.maintenance.watch()
    peer.claim(world, job_id)
    world.clock.advance(66)
    both(world, peer)
    world.clock.advance(TERM - 66)
    assert reclaimed(world, job_id) == "unavailable"


def test_reports_that_one_coordinator_could_not_store_count_for_the_other(world: World, peer: Peer) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    both(world, peer)
    with locked(world, job_id), pytest.raises(Unavailable):
        renew(world, claimed)
    world.clock.advance(TERM)
    assert world.stage(job_id, "ingest").unheard
    assert peer.maintenance.reap() == 1
    assert (world.stage(job_id, "ingest").error or {})["code"] == "unavailable"
    assert not world.stage(job_id, "ingest").unheard


def both(world: World, peer: Peer) -> None:
    """Both coordinators look at the leases from now on."""

    def look() -> None:
        world.maintenance.watch()
        peer.maintenance.watch()

    world.clock.meanwhile = look


def test_a_coordinator_that_is_gone_for_a_day_is_forgotten(world: World, peer: Peer) -> None:
    world.clock.advance(24 * 3600 + 60)
    rows = world.maintenance._rows.read()
    assert set(rows.pulses) == {world.calls.coordinator}
    assert peer.calls.coordinator not in rows.pulses


# Clocks


def test_a_clock_that_was_set_back_delays_no_lease(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.clock.now -= timedelta(hours=2)
    world.clock.advance(TERM)
    assert world.maintenance.reap() == 1


def test_a_lease_given_under_a_clock_ahead_ends_after_a_term(world: World) -> None:
    job_id = world.create()
    world.clock.now += timedelta(hours=2)
    world.claim(job_id, "ingest")
    world.clock.now -= timedelta(hours=2)
    world.connect(world.store)
    world.clock.advance(TERM)
    assert world.maintenance.reap() == 1


def test_a_clock_that_was_set_ahead_ends_no_lease_early(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.clock.now += timedelta(hours=2)
    world.clock.advance(SETTINGS.lease_seconds - 1)
    assert world.maintenance.reap() == 0
    renew(world, claimed)
    world.complete(claimed)


# Progress


def test_progress_beyond_every_earlier_attempt_forgives_their_failures(world: World) -> None:
    job_id = world.create()
    for attempt in range(2 * SETTINGS.max_lost_attempts):
        claimed = world.claim(job_id, "ingest")
        renew(world, claimed, done=attempt + 1)
        world.fail(claimed, WorkerLost("killed"))
        world.clock.advance(60)
    assert world.stage(job_id, "ingest").lost_attempts == 1
    world.do_all(job_id)


@pytest.mark.parametrize("done", [0, 1, 40])
def test_a_stage_that_dies_at_the_same_place_each_time_fails_its_job(world: World, done: int) -> None:
    job_id = world.create()
    for _ in range(SETTINGS.max_lost_attempts):
        claimed = world.claim(job_id, "ingest")
        renew(world, claimed, done=done)
        world.fail(claimed, WorkerLost("killed"))
        world.clock.advance(60)
    assert world.job(job_id).status is JobStatus.FAILED


def test_progress_that_no_integer_of_the_database_holds_is_progress(world: World) -> None:
    claimed = world.claim(world.create(), "ingest")
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=StageProgress(done=2**40, total=2**41)))
    assert world.stage(claimed.job_id, "ingest").furthest_done == 2**31 - 1


# Late answers


def test_a_worker_that_may_have_hung_up_before_its_answer_is_not_charged(world: World) -> None:
    job_id = world.create()
    seconds = iter(range(0, 1000, 5))
    slow = WorkerCalls(world.database, exists=world.store, settings=SETTINGS, monotonic=lambda: float(next(seconds)))
    coordinator = Maintenance(world.database, slow, settings=SETTINGS, monotonic=world.clock.monotonic)
    world.maintain(coordinator)
    stage = world.stage(job_id, "ingest")
    assert slow.claim(stage.id, Claim(owner="worker", service=stage.queue)) is not None
    world.clock.advance(TERM)
    assert reclaimed(world, job_id) == "unavailable"
