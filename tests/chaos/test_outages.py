"""Outages longer than a lease, more often than a stage has attempts: a job fails through none of them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.faults.faults import skew_library, skewed
from tests.chaos.rig.databases import SqliteFile
from tests.chaos.rig.small import RULES, Small, small

from craft.contracts.spec.jobs import JobStatus
from craft_gateway.lifecycle.job_transaction import JobTransaction

OUTAGES = RULES.max_attempts + 1
OUTAGE_SECONDS = max(RULES.outage_seconds, 1.5 * RULES.lease_seconds)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    state = tmp_path_factory.mktemp("outages")
    with small(state / "state", SqliteFile(state / "state")) as made:
        yield made


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def goes_on_uncounted(system: Small, stage_id: str) -> None:
    """The stage succeeds, and none of its many attempts was charged."""
    assert system.succeeded(stage_id)
    stage = system.stage(stage_id)
    assert (stage.attempt, stage.lost_attempts) == (1, 0)
    assert system.job(stage_id).status is JobStatus.RUNNING


def test_locks_of_the_database_fail_no_job(system: Small) -> None:
    stage_id = system.submit()
    for number in range(OUTAGES):
        worker = system.begun(stage_id, attempts=number + 1)
        child = worker.child
        unlock = system.server.lock()
        system.until(lambda child=child: not child.is_running())  # type: ignore[misc]
        wait(OUTAGE_SECONDS - RULES.give_up_seconds)
        unlock()
    system.begun(stage_id, attempts=OUTAGES + 1)
    goes_on_uncounted(system, stage_id)


def test_locks_of_one_job_fail_no_job(system: Small) -> None:
    stage_id = system.submit()
    for number in range(OUTAGES):
        child = system.begun(stage_id, attempts=number + 1).child
        with system.look.database.write() as session:
            # The job's row on PostgreSQL; on SQLite the one lock.
            JobTransaction.open(session, system.look.database.now, system.stage(stage_id).job_id)
            system.until(lambda child=child: not child.is_running())  # type: ignore[misc]
    system.begun(stage_id, attempts=OUTAGES + 1)
    goes_on_uncounted(system, stage_id)


def test_outages_of_every_coordinator_fail_no_job(system: Small) -> None:
    stage_id = system.submit()
    for number in range(OUTAGES):
        child = system.begun(stage_id, attempts=number + 1).child
        for coordinator in system.coordinators:
            coordinator.freeze(family=False)
        system.until(lambda child=child: not child.is_running())  # type: ignore[misc]
        wait(OUTAGE_SECONDS - RULES.give_up_seconds)
        for coordinator in system.coordinators:
            coordinator.thaw()
    system.begun(stage_id, attempts=OUTAGES + 1)
    goes_on_uncounted(system, stage_id)


def test_restarts_of_every_coordinator_fail_no_job(system: Small) -> None:
    stage_id = system.submit()
    for number in range(OUTAGES):
        child = system.begun(stage_id, attempts=number + 1).child
        for coordinator in system.coordinators:
            coordinator.kill()
        system.until(lambda child=child: not child.is_running())  # type: ignore[misc]
        for coordinator in system.coordinators:
            coordinator.start()
    system.begun(stage_id, attempts=OUTAGES + 1)
    goes_on_uncounted(system, stage_id)


def test_outages_of_one_coordinator_fail_no_job(system: Small) -> None:
    stage_id = system.submit()
    for number in range(OUTAGES):
        worker = system.begun(stage_id, attempts=number + 1)
        coordinator = system.coordinators[system.workers.index(worker)]
        coordinator.freeze(family=False)
        # The other one takes the stage back, and its own worker goes on with it; on SQLite not before the thaw, if the
        # frozen one happens to have the lock.
        wait(2 * RULES.lease_seconds)
        coordinator.thaw()
        system.begun(stage_id, attempts=number + 2)
    goes_on_uncounted(system, stage_id)


@pytest.mark.skipif(skew_library() is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("skew", ["-2h", "+2h"])
def test_coordinators_whose_clocks_are_wrong_take_a_parked_workers_stage_back_and_no_working_ones(
    tmp_path: Path, skew: str
) -> None:
    library = skew_library()
    assert library is not None
    with small(tmp_path / "state", SqliteFile(tmp_path / "state")) as system:
        stage_id = system.submit()
        parked = system.begun(stage_id)
        parked.freeze(family=True)
        for coordinator in system.coordinators:
            coordinator.kill()
            coordinator.start(**skewed(library, skew))
        heir = system.begun(stage_id, attempts=2)
        assert heir is not parked
        wait(2 * RULES.lease_seconds)
        # What is taken back has failed; a slow machine may make a worker give its stage back.
        assert system.outcomes(stage_id).count("failed") == 1
        assert system.succeeded(stage_id)
        parked.thaw()
