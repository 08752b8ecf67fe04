"""Each rule about outages is taken out once, and a test of its fact must see it."""

from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

import pytest
from tests.services.gateway.lifecycle import test_outages as facts
from tests.services.gateway.rigs.world import World

from craft.contracts.stages.claims import StageProgress
from craft_gateway.leases.unheard import Report, UnheardReports
from craft_gateway.leases.watch import ExpiredLease, LeaseWatch
from craft_gateway.lifecycle import attempts
from craft_gateway.lifecycle.maintenance import Maintenance
from craft_gateway.store.tables import Stage

_reclaim = Maintenance.reclaim


def never_away(self: LeaseWatch, now: float) -> bool:
    return False


def never_silent(self: LeaseWatch, coordinator: str | None, now: float) -> bool:
    return False


def always_charged(self: Maintenance, seen: Stage, *, outage: bool = False) -> bool:
    return _reclaim(self, seen)


def never_charged(self: Maintenance, seen: Stage, *, outage: bool = False) -> bool:
    return _reclaim(self, seen, outage=True)


def forgotten(self: UnheardReports, reports: Iterable[Report]) -> None:
    """Nothing is kept."""


def not_extended(self: LeaseWatch, stage_id: str) -> None:
    """The lease is as it was."""


def by_the_clock_on_the_wall(self: Maintenance) -> list[ExpiredLease]:
    rows = self._rows.read()
    with self._database.read() as session:
        now = self._database.now(session)
    return [ExpiredLease(lease, False) for lease in rows.leases if lease.expires_at and lease.expires_at < now]


def never_further(stage: Stage, progress: StageProgress | None) -> dict[str, int]:
    return {}


def always_further(stage: Stage, progress: StageProgress | None) -> dict[str, int]:
    return {"lost_attempts": 0}


Fact = Callable[[World], None]


def with_peer(fact: Callable[[World, facts.Peer], None]) -> Fact:
    def of_both(world: World) -> None:
        peer = facts.Peer(world)
        with closing(peer.database):
            fact(world, peer)

    return of_both


SAME_PLACE: Fact = partial(facts.test_a_stage_that_dies_at_the_same_place_each_time_fails_its_job, done=40)
MUTANTS: list[tuple[str, Fact, object, str, object]] = [
    (
        "no term after an outage",
        facts.test_a_coordinator_that_was_away_gives_every_lease_a_term_before_it_takes_one_back,
        LeaseWatch,
        "_was_away",
        never_away,
    ),
    (
        "no term after a start",
        facts.test_a_coordinator_that_starts_gives_every_lease_a_term_before_it_takes_one_back,
        Maintenance,
        "watch",
        by_the_clock_on_the_wall,
    ),
    (
        "an outage is charged",
        facts.test_outages_of_the_coordinator_fail_no_job_whose_workers_gave_up_meanwhile,
        Maintenance,
        "reclaim",
        always_charged,
    ),
    (
        "no worker is charged",
        facts.test_a_worker_that_falls_silent_beside_a_living_coordinator_is_charged,
        Maintenance,
        "reclaim",
        never_charged,
    ),
    (
        "another coordinator's silence is charged",
        with_peer(facts.test_a_worker_whose_own_coordinator_fell_silent_is_not_charged_by_another),
        LeaseWatch,
        "_silent",
        never_silent,
    ),
    (
        "refused reports are forgotten",
        with_peer(facts.test_reports_that_one_coordinator_could_not_store_count_for_the_other),
        UnheardReports,
        "add",
        forgotten,
    ),
    (
        "a refused end is tried at once",
        facts.test_a_lease_that_ends_while_the_database_refuses_to_end_it_gets_another_term,
        LeaseWatch,
        "extend",
        not_extended,
    ),
    (
        "a clock that is behind",
        facts.test_a_clock_that_was_set_back_delays_no_lease,
        Maintenance,
        "watch",
        by_the_clock_on_the_wall,
    ),
    (
        "a clock that is ahead",
        facts.test_a_clock_that_was_set_ahead_ends_no_lease_early,
        Maintenance,
        "watch",
        by_the_clock_on_the_wall,
    ),
    (
        "progress forgives nothing",
        facts.test_progress_beyond_every_earlier_attempt_forgives_their_failures,
        attempts,
        "_further",
        never_further,
    ),
    ("any progress forgives", SAME_PLACE, attempts, "_further", always_further),
]


@pytest.mark.parametrize(("fact", "owner", "name", "mutant"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_missing_rule_is_seen(
    world: World, fact: Fact, owner: object, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mutant is the one thing that only a patch can make.
    monkeypatch.setattr(owner, name, mutant)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        fact(world)
