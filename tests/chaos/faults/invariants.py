"""What must hold once every job has ended, whatever went wrong before: in SQL, each query gives the rows that break it.

Every query's first column is the job. The words are plain SQL that SQLite and PostgreSQL both take.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from sqlalchemy import text
from sqlmodel import Session, col, select

from craft_gateway.store.tables import Attempt, Stage


class Violation(NamedTuple):
    """Something that must not be. `job_id` is empty where no one job is concerned."""

    invariant: str
    job_id: str
    detail: str


OWN_FAULT = "a job fails only by its own fault"
QUERIES: dict[str, str] = {
    "every job has ended": "SELECT id, status FROM job WHERE status NOT IN ('succeeded', 'failed', 'cancelled')",
    OWN_FAULT: """
        SELECT id, error ->> 'stage', error ->> 'code', error ->> 'message' FROM job
        WHERE status = 'cancelled' OR (status = 'failed' AND coalesce(error ->> 'fault', '') <> 'user')""",
    "a job that succeeded has succeeded in every stage": """
        SELECT j.id, s.name, s.status FROM job j JOIN stage s ON s.job_id = j.id
        WHERE j.status = 'succeeded' AND s.status <> 'succeeded'""",
    "no stage outlives its job": """
        SELECT j.id, s.name, s.status FROM job j JOIN stage s ON s.job_id = j.id
        WHERE j.status IN ('succeeded', 'failed', 'cancelled') AND s.status IN ('pending', 'ready', 'running')""",
    "events are numbered from 1 without gaps": """
        SELECT j.id, j.event_seq, count(e.seq), max(e.seq) FROM job j LEFT JOIN event e ON e.subject = j.id
        GROUP BY j.id, j.event_seq
        HAVING count(e.seq) <> j.event_seq OR min(e.seq) <> 1 OR max(e.seq) <> j.event_seq""",
    "a job's end is told once, and is its status": """
        SELECT j.id, j.status, count(e.seq) FROM job j
        LEFT JOIN event e ON e.subject = j.id AND e.type IN ('job.succeeded', 'job.failed', 'job.cancelled')
        WHERE j.status IN ('succeeded', 'failed', 'cancelled') GROUP BY j.id, j.status
        HAVING count(e.seq) <> 1 OR min(e.type) <> 'job.' || j.status""",
    "nothing is told of a job after its end": """
        SELECT e.subject, e.seq, e.type FROM event e
        JOIN event last ON last.subject = e.subject AND last.type IN ('job.succeeded', 'job.failed', 'job.cancelled')
        WHERE e.seq > last.seq AND e.type NOT LIKE 'adapter.%'""",
    "a stage's end is told once": """
        SELECT s.job_id, s.name, count(e.seq) FROM stage s JOIN job j ON j.id = s.job_id
        LEFT JOIN event e ON e.subject = s.job_id
            AND e.type IN ('stage.succeeded', 'stage.reused', 'stage.failed') AND e.data ->> 'stage' = s.name
        GROUP BY s.job_id, s.name, j.status
        HAVING count(e.seq) > 1 OR (count(e.seq) = 0 AND j.status = 'succeeded')""",
    "a stage that succeeded has the artifact that counts for its key": """
        SELECT s.job_id, s.name, s.artifact_digest, a.digest FROM stage s
        LEFT JOIN artifact a ON a.key = s.artifact_key
        WHERE s.status = 'succeeded' AND (a.key IS NULL OR a.digest <> s.artifact_digest OR s.key <> s.artifact_key)""",
    "only a stage that succeeded has an artifact": """
        SELECT job_id, name, status FROM stage WHERE status <> 'succeeded' AND artifact_key IS NOT NULL""",
    "a stage was done by exactly one attempt, or by none where it was reused": """
        SELECT s.job_id, s.name, s.status, count(a.fence) FROM stage s
        LEFT JOIN attempt a ON a.stage_id = s.id AND a.outcome = 'succeeded'
        GROUP BY s.job_id, s.name, s.status, s.reused
        HAVING count(a.fence) <> CASE WHEN s.status = 'succeeded' AND NOT s.reused THEN 1 ELSE 0 END""",
    "the attempt that counts is the last": """
        SELECT s.job_id, s.name, a.fence, s.fence FROM stage s
        JOIN attempt a ON a.stage_id = s.id AND a.outcome = 'succeeded' WHERE a.fence <> s.fence""",
    "every claim raised the fence by one": """
        SELECT s.job_id, s.name, s.fence, count(a.fence) FROM stage s LEFT JOIN attempt a ON a.stage_id = s.id
        GROUP BY s.job_id, s.name, s.fence
        HAVING count(a.fence) <> s.fence OR min(a.fence) <> 1 OR max(a.fence) <> s.fence""",
    "an attempt is over where its stage does not run": """
        SELECT s.job_id, s.name, a.fence, a.outcome FROM attempt a JOIN stage s ON s.id = a.stage_id
        WHERE (a.outcome = 'running') <> (a.ended_at IS NULL)
            OR (a.ended_at IS NULL AND (s.status <> 'running' OR s.fence <> a.fence))""",
    "no stage that goes on has used up its attempts": """
        SELECT job_id, name, lost_attempts FROM stage WHERE lost_attempts >= :most""",
}


def violations(
    session: Session, *, accepted: Sequence[str], living: Callable[[str], bool], most: int
) -> list[Violation]:
    """All that does not hold. `living` says whether a lease's owner still runs; `most` is the cap of attempts."""
    return [*_queried(session, most), *_owned(session, living), *_in_turn(session), *_kept(session, accepted)]


def _queried(session: Session, most: int) -> Iterator[Violation]:
    for name, query in QUERIES.items():
        statement = text(query)
        words = {"most": most} if ":most" in query else {}
        for job_id, *rest in session.connection().execute(statement, words):
            yield Violation(name, str(job_id), ", ".join(map(str, rest)))


OWNED = "a running stage has a living owner"


def _owned(session: Session, living: Callable[[str], bool]) -> Iterator[Violation]:
    for stage in session.exec(select(Stage).where(Stage.status == "running")):
        if not living(stage.owner or ""):
            yield Violation(OWNED, stage.job_id, f"{stage.name}, {stage.owner}")


IN_TURN = "no two attempts at one key overlap, and later fences begin later"


def _in_turn(session: Session) -> Iterator[Violation]:
    by_key: dict[str, list[Attempt]] = {}
    rows = select(Attempt, Stage.key).join(Stage, col(Stage.id) == col(Attempt.stage_id))
    for attempt, key in session.exec(rows.order_by(col(Attempt.started_at), col(Attempt.fence))):
        by_key.setdefault(key or attempt.stage_id, []).append(attempt)
    for attempts in by_key.values():
        for one, other in combinations(attempts, 2):
            overlap = one.ended_at is None or one.ended_at > other.started_at
            disordered = one.stage_id == other.stage_id and one.fence > other.fence
            if overlap or disordered:
                detail = f"{one.kind}: {one.stage_id} #{one.fence} to {one.ended_at}, "
                yield Violation(IN_TURN, one.job_id, f"{detail}{other.stage_id} #{other.fence} from {other.started_at}")


KEPT = "each accepted job is there, once, and no other"


def _kept(session: Session, accepted: Sequence[str]) -> Iterator[Violation]:
    there = set(session.connection().execute(text("SELECT id FROM job")).scalars())
    for job_id in set(accepted) - there:
        yield Violation(KEPT, job_id, "it was accepted and is gone")
    for job_id in there - set(accepted):
        yield Violation(KEPT, job_id, "nobody was told of it")
    if len(set(accepted)) != len(accepted):
        yield Violation(KEPT, "", "two submissions were given one job")
