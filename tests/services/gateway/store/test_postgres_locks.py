"""What PostgreSQL's locks are for: on SQLite one writer has the whole database, so only here can they be missed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.selectable import GenerativeSelect
from sqlmodel import Session, select
from tests.services.gateway.retention import test_retention as retention_facts
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, fail_lock_waits, until_it_waits_or_ends
from tests.services.gateway.rigs.world import World, resolved

from craft.contracts.public.accounts import TeamSettings
from craft.contracts.stages.claims import Claim, Renew
from craft.errors import Unavailable
from craft_gateway.lifecycle import attempts, control
from craft_gateway.lifecycle.attempts import claimable, hand_out
from craft_gateway.lifecycle.creation import CreatedJob, Idempotency, NewJob, Origin, store_jobs
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.transitions import cancel
from craft_gateway.plan.stages import plan
from craft_gateway.retention import collector
from craft_gateway.scheduling.allowances import team_allowances
from craft_gateway.store import database
from craft_gateway.store.database import Clock, lock_key
from craft_gateway.store.tables import Job, Outbox, Stage

pytestmark = ON_POSTGRESQL


def test_a_renewal_that_comes_while_its_job_is_being_cancelled_waits_and_hears_of_it(postgres: World) -> None:
    claimed = postgres.claim(postgres.create(), "ingest")
    postgres.clock.advance(1)
    with ThreadPoolExecutor(1) as pool:
        with postgres.database.write() as session:
            cancel(JobTransaction.open(session, postgres.database.now, claimed.job_id))
            session.flush()
            renewing = pool.submit(postgres.calls.renew, claimed.stage_id, Renew(fence=claimed.fence))
            until_it_waits_or_ends(postgres.database, renewing)
        assert renewing.result().stop


def test_what_two_tell_of_one_job_at_once_is_told_one_after_the_other(postgres: World) -> None:
    job_id = postgres.create()
    with ThreadPoolExecutor(1) as pool:
        with postgres.database.write() as session:
            unit = JobTransaction.open(session, postgres.database.now, job_id)
            hand_out_to(unit, postgres.stage(job_id, "ingest"), postgres)
            session.flush()
            pausing = pool.submit(postgres.control.pause, job_id)
            until_it_waits_or_ends(postgres.database, pausing)
        assert pausing.result() == "pausing"
    assert [event.seq for event in postgres.events(job_id)] == list(range(1, postgres.job(job_id).event_seq + 1))


def test_who_claims_while_a_teams_last_place_is_being_taken_gets_nothing(postgres: World) -> None:
    postgres.between(small=TeamSettings(max_running_jobs=1))
    earlier = postgres.create(team="small", seed=1)
    postgres.do(earlier, "ingest")
    postgres.control.cancel(earlier)
    first, urgent = postgres.create(team="small", seed=2), postgres.create(team="small", seed=3, priority=90)
    with ThreadPoolExecutor(1) as pool:
        with postgres.database.write() as session:
            unit = JobTransaction.open(session, postgres.database.now, first)
            hand_out_to(unit, postgres.stage(first, "ingest"), postgres)
            session.flush()
            claiming = pool.submit(postgres.try_claim, postgres.stage(urgent, "ingest"))
            until_it_waits_or_ends(postgres.database, claiming)
        assert claiming.result() is None
    assert postgres.job(urgent).status == "queued"


def hand_out_to(unit: JobTransaction, seen: Stage, world: World) -> None:
    """As a claim does within its transaction."""
    stage = unit.stage(seen.id)
    teams = team_allowances(unit.session)
    assert claimable(unit, stage, teams)
    claim = Claim(owner="first", service=stage.queue)
    hand_out(unit, stage, claim, coordinator=world.calls.coordinator, settings=world.settings, teams=teams)


def test_a_claim_waits_for_a_sweep_of_what_lies_under_its_key(postgres: World) -> None:
    stage = postgres.stage(postgres.create(), "ingest")
    with ThreadPoolExecutor(1) as pool:
        with postgres.database.write() as session:
            lock_key(session, stage.key or "")
            claiming = pool.submit(postgres.try_claim, stage)
            until_it_waits_or_ends(postgres.database, claiming)
            assert not claiming.done()
        assert claiming.result() is not None


def test_a_relay_passes_over_what_another_one_is_just_taking(postgres: World) -> None:
    taken, free = (postgres.stage(postgres.create(seed=seed), "ingest") for seed in (1, 2))
    fail_lock_waits(postgres.database)
    with postgres.database.write() as session:
        session.exec(select(Outbox).where(Outbox.stage_id == taken.id).with_for_update()).one()
        assert postgres.relay.send_due() == 1
    assert postgres.relay.send_due() == 1
    assert [stage_id for _, stage_id in postgres.broker.sent] == [free.id, taken.id]


def test_a_sweep_passes_over_a_stage_that_somebody_is_just_changing(postgres: World) -> None:
    changing, _ = (postgres.stage(postgres.create(seed=seed), "ingest") for seed in (1, 2))
    postgres.relay.send_due()
    postgres.clock.advance(61)
    fail_lock_waits(postgres.database)
    with postgres.database.write() as session:
        session.exec(select(Stage).where(Stage.id == changing.id).with_for_update()).one()
        assert postgres.maintenance.redispatch().dispatched == 1
    assert postgres.maintenance.redispatch().dispatched == 1


# Each lock taken out once: the fact that it is for must not hold any more.


def no_row_lock(cls: type[JobTransaction], session: Session, clock: Clock, job_id: str) -> JobTransaction:
    job = session.exec(select(Job).where(Job.id == job_id)).one()
    return cls(session, clock(session), job, actor=None)


def no_key_lock(session: Session, name: str) -> None:
    """Everybody goes on."""


real_lock = GenerativeSelect.with_for_update


def waiting_lock(self: GenerativeSelect, *, skip_locked: bool = False, **options: Any) -> GenerativeSelect:
    return real_lock(self, **options)


Mutant = tuple[type | ModuleType, str, object]
JOB_ROW: Mutant = (JobTransaction, "open", classmethod(no_row_lock))
SKIPPING: Mutant = (GenerativeSelect, "with_for_update", waiting_lock)
Fact = Callable[[World], None]
MUTANTS: list[tuple[str, Fact, Mutant, type[Exception]]] = [
    (
        "status",
        test_a_renewal_that_comes_while_its_job_is_being_cancelled_waits_and_hears_of_it,
        JOB_ROW,
        AssertionError,
    ),
    ("events", test_what_two_tell_of_one_job_at_once_is_told_one_after_the_other, JOB_ROW, IntegrityError),
    (
        "team",
        test_who_claims_while_a_teams_last_place_is_being_taken_gets_nothing,
        (attempts, "lock_key", no_key_lock),
        AssertionError,
    ),
    (
        "claim",
        test_a_claim_waits_for_a_sweep_of_what_lies_under_its_key,
        (attempts, "lock_key", no_key_lock),
        AssertionError,
    ),
    (
        "take over",
        retention_facts.test_a_job_that_found_an_artifact_which_the_sweep_takes_computes_it_again,
        (database, "lock_key", no_key_lock),
        AssertionError,
    ),
    (
        "sweep",
        retention_facts.test_who_takes_over_while_the_sweep_is_at_it_waits_and_finds_nothing,
        (collector, "lock_key", no_key_lock),
        AssertionError,
    ),
    (
        "pin",
        retention_facts.test_a_pin_waits_for_the_sweep_of_what_it_would_keep,
        (control, "lock_key", no_key_lock),
        AssertionError,
    ),
    ("relay", test_a_relay_passes_over_what_another_one_is_just_taking, SKIPPING, Unavailable),
    ("sweeper", test_a_sweep_passes_over_a_stage_that_somebody_is_just_changing, SKIPPING, Unavailable),
]


@pytest.mark.parametrize(("fact", "mutant", "seen"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_missing_lock_is_seen(
    postgres: World, fact: Fact, mutant: Mutant, seen: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*mutant)
    # Time enough for whoever no longer waits to get to the end.
    monkeypatch.setattr(retention_facts, "MEANWHILE_SECONDS", 20.0)
    with pytest.raises(seen):
        fact(postgres)


def test_a_request_that_comes_twice_at_once_for_the_last_place_makes_one_job_and_is_refused_none(
    postgres: World,
) -> None:
    postgres.between(alpha=TeamSettings(max_unfinished_jobs=1))
    job = resolved()
    new = NewJob(job, plan(job), {}, origin=Origin("alpha"), idempotency=Idempotency.of("once", "alpha", "body"))
    with ThreadPoolExecutor(1) as pool:
        with postgres.database.write() as session:
            [first] = store_jobs(session, postgres.database.now, [new])
            session.flush()
            again = pool.submit(postgres.control.create_jobs, [new])
            until_it_waits_or_ends(postgres.database, again)
        [second] = again.result()
    assert isinstance(first, CreatedJob)
    assert isinstance(second, CreatedJob), second
    assert (second.id, second.repeated) == (first.id, True)
