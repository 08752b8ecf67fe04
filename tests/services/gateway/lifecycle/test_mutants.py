"""A check that cannot fail is worthless: each safeguard is taken out once, and a test of its fact must see it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlmodel import Session
from tests.services.gateway.lifecycle import test_transitions as facts
from tests.services.gateway.rigs.world import FakeStore, World

from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import LeaseLost, WorkerLost
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.maintenance import Maintenance
from craft_gateway.lifecycle.transitions import retry_or_fail
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Event, Stage


def no_fence_check(self: JobTransaction, stage_id: str, fence: int) -> Stage:
    stage = self.stage(stage_id)
    if stage.status is not StageStatus.RUNNING:
        raise LeaseLost("not running")
    return stage


def no_state_check(self: JobTransaction, stage_id: str, fence: int) -> Stage:
    return self.stage(stage_id)


def no_compare_and_set(self: JobTransaction, stage: Stage, to: StageStatus, **values: Any) -> None:
    for name, value in {**values, "status": to}.items():
        setattr(stage, name, value)


def any_event(self: JobTransaction, type_: EventType, **data: Any) -> None:
    self.job.event_seq += 1
    job = self.job
    event = Event(subject=job.id, seq=job.event_seq, team=job.team, type=type_, data=data, created_at=self.now)
    self.session.add(event)


def a_second_end(self: JobTransaction, status: JobStatus, *, reason: str, error: dict[str, Any] | None = None) -> None:
    self.job.status = status


def reap(self: Maintenance, seen: Stage) -> bool:
    with self._database.write() as session:
        unit = JobTransaction.open(session, self._database.now, seen.job_id)
        retry_or_fail(unit, unit.stage(seen.id), StageError.of(WorkerLost("lost")), max_attempts=3)
    return True


def local_clock(self: Database, session: Session) -> datetime:
    return datetime.now(UTC)


def unpublished(self: FakeStore, artifact: ArtifactRef) -> bool:
    return True


Fact = Callable[[World], None]
MUTANTS: list[tuple[str, Fact, type, str, object]] = [
    ("fence", facts.test_a_zombies_old_fence_changes_nothing, JobTransaction, "leased", no_fence_check),
    (
        "state",
        facts.test_a_zombie_between_reaping_and_the_next_claim_changes_nothing,
        JobTransaction,
        "leased",
        no_state_check,
    ),
    (
        "cas",
        facts.test_a_row_that_changed_since_it_was_read_is_not_overwritten,
        JobTransaction,
        "move",
        no_compare_and_set,
    ),
    (
        "last",
        facts.test_what_completes_after_its_job_failed_still_leaves_its_artifact,
        JobTransaction,
        "emit",
        any_event,
    ),
    ("end", facts.test_a_terminal_status_is_written_once, JobTransaction, "end", a_second_end),
    (
        "renewed",
        facts.test_a_stage_renewed_after_the_reaper_saw_it_stays_with_its_worker,
        Maintenance,
        "reclaim",
        reap,
    ),
    ("done", facts.test_a_stage_completed_after_the_reaper_saw_it_stays_completed, Maintenance, "reclaim", reap),
    ("clock", facts.test_a_stage_past_its_deadline_is_stopped_and_counts_as_a_timeout, Database, "now", local_clock),
    ("publish", facts.test_an_artifact_that_is_not_in_the_store_is_not_adopted, FakeStore, "__call__", unpublished),
]


@pytest.mark.parametrize(("fact", "owner", "name", "mutant"), [m[1:] for m in MUTANTS], ids=[m[0] for m in MUTANTS])
def test_a_missing_safeguard_is_seen(
    world: World, fact: Fact, owner: type, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mutant is the one thing that only a patch can make.
    monkeypatch.setattr(owner, name, mutant)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        fact(world)
