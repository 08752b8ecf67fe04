"""What a run came to: for each kind of fault what became of the jobs under way, and how soon killed stages went on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from sqlmodel import col, select
from tests.chaos.faults.invariants import Violation
from tests.chaos.faults.schedule import Fault
from tests.chaos.rig.scene import Injected, Victim

from craft.contracts.problems import JobError
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Attempt, Job

TWICE = frozenset(
    {
        "a job's end is told once, and is its status",
        "a stage's end is told once",
        "a stage was done by exactly one attempt, or by none where it was reused",
    }
)
"""Invariants whose breach somebody would see: something was done, or told, two times."""


_OWN = "user"
"""The fault of an error that lies in the job or its data."""
_CLAIMING = timedelta(seconds=1)
"""How long a claim is on its way at most: a worker may be dead before its claim is committed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the jobs ended, and every claim that was made, by stage in the order of fences.

    `failures` has the error of each job that failed. `other_bytes` counts keys at which a later attempt came to other
    bytes than the one that counts.
    """

    statuses: Mapping[str, str]
    attempts: Mapping[str, Sequence[Attempt]]
    other_bytes: int = 0
    failures: Mapping[str, JobError] = field(default_factory=dict)

    @classmethod
    def read(cls, database: Database) -> "Ended":
        """From the database."""
        attempts: dict[str, list[Attempt]] = {}
        with database.read() as session:
            jobs = session.exec(select(Job.id, Job.status, Job.error)).all()
            for attempt in session.exec(select(Attempt).order_by(col(Attempt.fence))):
                attempts.setdefault(attempt.stage_id, []).append(attempt)
            other_bytes = sum(bool(artifact.other_digests) for artifact in session.exec(select(Artifact)))
        statuses = {job_id: str(status) for job_id, status, _ in jobs}
        failures = {job_id: JobError.model_validate(error) for job_id, _, error in jobs if error}
        return cls(statuses, attempts, other_bytes, failures)

    def lost(self, job_id: str) -> bool:
        """True if the accepted job did not succeed, and that is no fault of its own. A job of chaos is sound."""
        if self.statuses.get(job_id) == "succeeded":
            return False
        failure = self.failures.get(job_id)
        return failure is None or failure.fault != _OWN

    def repeated(self) -> Iterator[Attempt]:
        """Every attempt that another one followed."""
        for attempts in self.attempts.values():
            yield from attempts[:-1]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. The seconds are from the fault to a victim's stage being ready, and claimed, again."""

    name: str
    injected: int
    jobs: int
    succeeded: int
    failed: int
    lost: int
    twice: int
    recomputed: int
    back_seconds: Sequence[float]
    again_seconds: Sequence[float]


def rows(
    ended: Ended, injected: Sequence[Injected], violations: Sequence[Violation], *, accepted: Iterable[str]
) -> list[Row]:
    """A row for each kind that was injected, one for what no fault explains, one for all accepted jobs."""
    twice = {violation.job_id for violation in violations if violation.invariant in TWICE}
    blamed = [_blamed(attempt, injected) for attempt in ended.repeated()]
    kinds = [kind for kind in Fault if any(one.fault is kind for one in injected)]

    def row(name: str, of: Sequence[Injected], jobs: Iterable[str], recomputed: int) -> Row:
        seconds = [pair for one in of for victim in one.hit.victims if (pair := _seconds(ended, one.at, victim))]
        statuses = {job: ended.statuses.get(job) for job in jobs}
        return Row(
            name=name,
            injected=len(of),
            jobs=len(statuses),
            succeeded=sum(status == "succeeded" for status in statuses.values()),
            failed=sum(status == "failed" for status in statuses.values()),
            lost=sum(map(ended.lost, statuses)),
            twice=len(statuses.keys() & twice),
            recomputed=recomputed,
            back_seconds=[back for back, _ in seconds],
            again_seconds=[again for _, again in seconds if again is not None],
        )

    made = []
    for kind in kinds:
        of = [one for one in injected if one.fault is kind]
        made.append(row(kind.value, of, frozenset[str]().union(*(one.jobs for one in of)), blamed.count(kind)))
    made.append(row("no fault at that time", [], [], blamed.count(None)))
    return [*made, row("all", injected, accepted, len(blamed))]


def _seconds(ended: Ended, at: datetime, victim: Victim) -> tuple[float, float | None] | None:
    """From the fault to the end of the victim's claim, and to the next claim; None where the claim was over before."""
    attempts = {attempt.fence: attempt for attempt in ended.attempts.get(victim.stage_id, ())}
    hit, after = attempts.get(victim.fence), attempts.get(victim.fence + 1)
    if hit is None or hit.ended_at is None or hit.outcome.value == "succeeded":
        return None
    back = (hit.ended_at - at).total_seconds()
    return (back, (after.started_at - at).total_seconds() if after else None) if back >= 0 else None


def _blamed(attempt: Attempt, injected: Sequence[Injected]) -> Fault | None:
    """The fault that named the attempt its victim; else the first that came while it ran, or while it was claimed."""
    began = attempt.started_at - _CLAIMING
    during = [one for one in injected if began <= one.at and (attempt.ended_at is None or one.at <= attempt.ended_at)]
    named = [one for one in during if Victim(attempt.stage_id, attempt.fence) in one.hit.victims]
    return next((one.fault for one in [*named, *during]), None)


def failure_lines(ended: Ended, injected: Sequence[Injected]) -> list[str]:
    """A line for each failed job: whose fault it was, and which faults its stage's attempts met."""
    made = []
    for job_id, failure in sorted(ended.failures.items()):
        stages = [attempts for attempts in ended.attempts.values() if attempts[-1].job_id == job_id]
        met = [_blamed(attempt, injected) for attempts in stages for attempt in attempts if attempt.error is not None]
        whose = "its own fault" if failure.fault == _OWN else "the system's fault, so it is lost"
        faults = ", ".join(fault.value if fault else "none" for fault in met)
        made.append(
            f"{job_id} failed in {failure.stage}, attempt {failure.attempt}: {failure.code}, {whose}; "
            f"faults that its attempts met: {faults}"
        )
    return made


_HEAD = ("fault", "injected", "jobs", "succeeded", "failed", "lost", "twice", "recomputed", "ready, s", "claimed, s")


def table(made: Sequence[Row]) -> str:
    """The rows in columns; seconds as median (most)."""
    lines = [
        _HEAD,
        *(
            (
                row.name,
                *map(str, _counts(row)),
                _shown(row.back_seconds),
                _shown(row.again_seconds),
            )
            for row in made
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _counts(row: Row) -> tuple[int, ...]:
    return row.injected, row.jobs, row.succeeded, row.failed, row.lost, row.twice, row.recomputed


def _shown(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} ({max(seconds):.1f})" if seconds else "-"
