"""A commit that happened although its caller was told otherwise: saying it again is harmless."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import Session
from tests.services.gateway.rigs.world import SETTINGS, FakeClock, World, new_world, resolved

from craft.contracts.events import EventType
from craft.contracts.problems import StageError
from craft.contracts.stages.claims import ClaimedStage, Fail, Release, Renew
from craft.core.strategies import Strategy
from craft.errors import LeaseLost, Unavailable, WorkerLost
from craft_gateway.lifecycle.creation import Idempotency
from craft_gateway.store.database import Database

ONCE = Idempotency("a key", "0" * 64)


class LosesAnswers(Database):
    """A database whose connection breaks just after a commit, as often as asked."""

    losing = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        if self.losing:
            self.losing -= 1
            raise Unavailable("The connection broke.")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    with new_world(folder) as made:
        clock = FakeClock()
        database = LosesAnswers(made.database.url, clock=clock)
        yield World(database, clock, SETTINGS)
        database.close()


def unheard(world: World, call: Callable[[], object]) -> None:
    """The call is done and its answer lost."""
    assert isinstance(world.database, LosesAnswers)
    world.database.losing = 1
    with pytest.raises(Unavailable):
        call()


def claimed(world: World) -> ClaimedStage:
    return world.claim(world.create(Strategy.COR_RAIT), "ingest")


def test_a_job_whose_acceptance_was_not_heard_is_accepted_once(world: World) -> None:
    job = resolved(Strategy.COR_RAIT)
    unheard(world, lambda: world.control.create_job(job, idempotency=ONCE))
    again = world.control.create_job(job, idempotency=ONCE)
    assert again.repeated
    assert len(world.outbox()) == 1


def test_a_claim_that_was_not_heard_ends_with_its_lease(world: World) -> None:
    job_id = world.create(Strategy.COR_RAIT)
    stage = world.stage(job_id, "ingest")
    unheard(world, lambda: world.try_claim(stage))
    assert world.try_claim(stage, "worker-2") is None
    world.clock.advance(SETTINGS.lease_seconds + 1)
    assert world.maintenance.reap() == 1
    again = world.try_claim(stage, "worker-2")
    assert again is not None
    assert again.fence == 2


def test_a_worker_that_did_not_hear_its_claims_gets_the_stage_without_using_up_attempts(world: World) -> None:
    job_id = world.create(Strategy.COR_RAIT)
    stage = world.stage(job_id, "ingest")
    for _ in range(4):
        unheard(world, lambda: world.try_claim(stage, "a worker"))
    again = world.try_claim(stage, "a worker")
    assert again is not None
    # Every other call was lost after it had given back what the one before it had claimed.
    assert (again.attempt, again.fence) == (1, 3)
    world.complete(again)


def test_a_completion_that_was_not_heard_counts_and_counts_once(world: World) -> None:
    stage = claimed(world)
    unheard(world, lambda: world.complete(stage))
    events = world.event_types(stage.job_id)
    world.complete(stage)
    assert world.event_types(stage.job_id) == events
    assert events.count(EventType.STAGE_SUCCEEDED) == 1


@pytest.mark.parametrize("report", ["fail", "release"])
def test_a_stage_that_was_given_up_unheard_is_given_up_once(world: World, report: str) -> None:
    stage = claimed(world)
    given_up = Fail(fence=stage.fence, error=StageError.of(WorkerLost("killed")))

    def say() -> None:
        if report == "fail":
            world.calls.fail(stage.stage_id, given_up)
        else:
            world.calls.release(stage.stage_id, Release(fence=stage.fence))

    unheard(world, say)
    with pytest.raises(LeaseLost):
        say()
    after = world.stage(stage.job_id, "ingest")
    assert (after.status, after.attempt) == ("ready", 2 if report == "fail" else 1)


def test_a_beat_that_was_not_heard_keeps_the_lease(world: World) -> None:
    stage = claimed(world)
    world.clock.advance(SETTINGS.lease_seconds - 1)
    unheard(world, lambda: world.calls.renew(stage.stage_id, Renew(fence=stage.fence)))
    world.clock.advance(SETTINGS.lease_seconds - 1)
    assert world.maintenance.reap() == 0


def test_a_hint_whose_sending_was_not_noted_is_sent_again_and_starts_nothing_twice(world: World) -> None:
    job_id = world.create(Strategy.COR_RAIT)
    assert isinstance(world.database, LosesAnswers)
    # The relay notes what it takes and what it has sent: either note's answer may be lost.
    for lost in (1, 2):
        world.database.losing = lost
        with pytest.raises(Unavailable):
            world.relay.send_due()
        world.database.losing = 0
        world.clock.advance(SETTINGS.resend_seconds + 1)
        world.maintenance.redispatch()
    world.relay.send_due()
    assert world.broker.sent
    assert {stage_id for _, stage_id in world.broker.sent} == {world.stage(job_id, "ingest").id}
    assert world.try_claim(world.stage(job_id, "ingest")) is not None
    assert world.try_claim(world.stage(job_id, "ingest"), "worker-2") is None
