"""What the random form is made of: a schedule that its seed decides, and a table that counts what was done."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from tests.chaos.__main__ import main
from tests.chaos.faults.faults import INJECT
from tests.chaos.faults.invariants import Violation
from tests.chaos.faults.outcome import Ended, Row, failure_lines, rows, table
from tests.chaos.faults.run import Options, Result, Say
from tests.chaos.faults.schedule import RARE, Fault, schedule
from tests.chaos.rig.scene import Hit, Injected, Victim

from craft.contracts.problems import JobError
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import Service, StageKind
from craft.errors import Fault as FaultOf
from craft_gateway.store.tables import Attempt

START = datetime(2026, 1, 1, tzinfo=UTC)


def moments(seed: int, count: int) -> list[tuple[float, Fault]]:
    kinds = list(Fault)
    return [
        (one.pause_seconds, one.fault) for one in schedule(random.Random(seed), kinds, count=count, mean_seconds=4.0)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_decides_what_goes_wrong_and_when(seed: int) -> None:
    assert moments(seed, 40) == moments(seed, 40)
    assert moments(seed, 40) != moments(seed + 1, 40)
    assert all(2.0 <= pause <= 6.0 for pause, _ in moments(seed, 40))


def test_every_kind_comes_in_the_first_round_and_rare_ones_in_every_other() -> None:
    often = Counter(fault for _, fault in moments(1, 2 * len(Fault) - len(RARE)))
    assert {fault: often[fault] for fault in Fault} == {fault: 1 if fault in RARE else 2 for fault in Fault}


def test_every_kind_can_be_made() -> None:
    assert set(INJECT) == set(Fault)


def attempt(fence: int, began: float, ended: float, outcome: AttemptOutcome, *, stage_id: str = "stg_1") -> Attempt:
    return Attempt(
        stage_id=stage_id,
        fence=fence,
        job_id="cjob_1",
        team="default",
        queue=Service.SCORING,
        kind=StageKind.SCORE,
        number=fence,
        owner="host-1-wrk_1",
        outcome=outcome,
        started_at=START + timedelta(seconds=began),
        ended_at=START + timedelta(seconds=ended),
    )


def injected(fault: Fault, at: float, *victims: Victim, jobs: Sequence[str] = ("cjob_1",)) -> Injected:
    return Injected(fault, START + timedelta(seconds=at), Hit("somebody", victims), frozenset(jobs))


LOST = attempt(1, 0, 9, AttemptOutcome.FAILED)
DONE = attempt(2, 10.5, 12, AttemptOutcome.SUCCEEDED)
KILLED = injected(Fault.WORKER_KILLED, 5, Victim("stg_1", 1))


def made(
    *faults: Injected, status: str = "succeeded", attempts: Sequence[Attempt] = (LOST, DONE), twice: bool = False
) -> dict[str, Row]:
    violations = [Violation("a stage's end is told once", "cjob_1", "")] if twice else []
    ended = Ended({"cjob_1": status}, {"stg_1": list(attempts)})
    return {row.name: row for row in rows(ended, faults, violations, accepted=["cjob_1"])}


def test_a_killed_stages_seconds_count_from_the_kill() -> None:
    row = made(KILLED)[Fault.WORKER_KILLED]
    assert (row.injected, row.jobs, row.succeeded, row.lost, row.twice, row.recomputed) == (1, 1, 1, 0, 0, 1)
    assert (row.back_seconds, row.again_seconds) == ([4.0], [5.5])


def test_what_a_fault_named_is_its_own_and_the_rest_the_first_ones() -> None:
    before = injected(Fault.BROKER_FLUSHED, 1)
    assert made(before, KILLED)[Fault.WORKER_KILLED].recomputed == 1
    assert made(before, injected(Fault.GATEWAY_KILLED, 5))[Fault.BROKER_FLUSHED].recomputed == 1
    assert made(injected(Fault.GATEWAY_KILLED, 20))["no fault at that time"].recomputed == 1


def test_a_claim_that_ended_well_was_no_victim() -> None:
    (row,) = (
        row
        for name, row in made(KILLED, attempts=[attempt(1, 0, 9, AttemptOutcome.SUCCEEDED)]).items()
        if name == Fault.WORKER_KILLED
    )
    assert (row.recomputed, row.back_seconds, row.again_seconds) == (0, [], [])


def failure(fault: FaultOf) -> JobError:
    return JobError(code="worker_lost", message="", fault=fault, retryable=True, stage="tune", attempt=3)


@pytest.mark.parametrize("status", ["running", "queued", "cancelled"])
def test_jobs_that_never_ended_are_lost(status: str) -> None:
    row = made(KILLED, status=status)["all"]
    assert (row.succeeded, row.failed, row.lost) == (0, 0, 1)


@pytest.mark.parametrize(("fault", "lost"), [(FaultOf.SYSTEM, 1), (FaultOf.USER, 0)])
def test_a_job_that_failed_through_no_fault_of_its_own_is_lost(fault: FaultOf, lost: int) -> None:
    ended = Ended({"cjob_1": "failed"}, {"stg_1": [LOST]}, failures={"cjob_1": failure(fault)})
    total = rows(ended, [KILLED], [], accepted=["cjob_1"])[-1]
    assert (total.succeeded, total.failed, total.lost) == (0, 1, lost)


def test_an_accepted_job_that_is_nowhere_is_lost() -> None:
    assert rows(Ended({}, {}), [], [], accepted=["cjob_1"])[-1].lost == 1


def test_a_failed_jobs_line_says_whose_fault_it_was_and_what_its_attempts_met() -> None:
    died = LOST.model_copy(update={"error": {"code": "worker_lost"}})
    for fault, words in ((FaultOf.SYSTEM, "the system's fault, so it is lost"), (FaultOf.USER, "its own fault")):
        ended = Ended({"cjob_1": "failed"}, {"stg_1": [died, DONE]}, failures={"cjob_1": failure(fault)})
        assert failure_lines(ended, [KILLED]) == [
            f"cjob_1 failed in tune, attempt 3: worker_lost, {words}; faults that its attempts met: worker: SIGKILL"
        ]


def test_doubled_jobs_are_counted() -> None:
    assert made(KILLED, twice=True)["all"].twice == 1


def test_the_table_has_a_line_for_each_kind_and_one_for_all() -> None:
    lines = table(list(made(KILLED, injected(Fault.BROKER_FLUSHED, 1)).values())).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "fault",
        Fault.WORKER_KILLED,
        Fault.BROKER_FLUSHED,
        "no fault at that time",
        "all",
    ]
    assert "4.0 (4.0)" in lines[1]


@pytest.mark.parametrize(
    ("violations", "status", "code"),
    [
        ([], "succeeded", 0),
        ([Violation("every job has ended", "cjob_1", "running")], "succeeded", 1),
        ([], "failed", 1),
    ],
)
def test_what_is_broken_or_lost_is_printed_and_makes_the_exit_code(
    violations: list[Violation], status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Options] = []

    def run(options: Options, say: Say) -> Result:
        asked.append(options)
        return Result(
            rows=list(made(KILLED, status=status).values()),
            accepted=1,
            violations=violations,
            failures=["cjob_1 failed"] if status == "failed" else [],
            deaths=[],
            other_bytes=0,
            seconds=1.0,
        )

    assert main(["--seed", "7", "--faults", "100"], run=run) == code
    assert [(one.database, one.seed, one.faults) for one in asked] == [("sqlite", 7, 50), ("postgresql", 7, 50)]
    printed = capsys.readouterr().out
    assert printed.startswith("seed 7\n")
    assert ("BROKEN: every job has ended: cjob_1 running" in printed) == bool(violations)
    assert ("FAILED: cjob_1 failed" in printed) == (status == "failed")
    assert ("1 accepted, 1 succeeded, 0 failed, 0 lost, 0 done twice" in printed) == (status == "succeeded")
