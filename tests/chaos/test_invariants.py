"""A check that cannot fail is worthless: each invariant holds after a good run, and each is seen to fail."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import Session
from tests.chaos.faults.finished import Finished, finished
from tests.chaos.faults.invariants import IN_TURN, KEPT, OWNED, QUERIES, violations
from tests.chaos.rig.stored import COUNTED, WHOLE, stored_violations
from tests.services.gateway.rigs.world import new_world

from craft_gateway.store.database import Database
from craft_gateway.store.tables import Attempt

MAX_ATTEMPTS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Finished]]:
    """Made once; tests spoil copies."""
    original = tmp_path_factory.mktemp("original")
    (original / "world").mkdir()
    with new_world(original / "world") as world:
        done = finished(world, original / "artifacts")
        world.database.close()
        yield original, done


@pytest.fixture
def good(made: tuple[Path, Finished], tmp_path: Path) -> Iterator[Finished]:
    original, done = made
    copy = shutil.copytree(original, tmp_path / "copy")
    database = Database(f"sqlite:///{copy / 'world' / 'craft.db'}")
    yield done._replace(database=database, artifacts=copy / "artifacts")
    database.close()


def broken(good: Finished, *, accepted: Sequence[str] | None = None, living: Collection[str] = ()) -> set[str]:
    """The names of the invariants that do not hold."""
    jobs = [good.first, good.second] if accepted is None else accepted
    with good.database.read() as session:
        found = violations(session, accepted=jobs, living=living.__contains__, most=MAX_ATTEMPTS)
    return {violation.invariant for violation in [*found, *stored_violations(good.database, good.artifacts)]}


def spoil(good: Finished, *statements: str) -> None:
    with good.database.write() as session:
        spoil_in(session, good, *statements)


def spoil_in(session: Session, good: Finished, *statements: str) -> None:
    """Within this transaction."""
    names = {"first": good.first, "lost": good.lost, "released": good.released}
    for statement in statements:
        used = {name: value for name, value in names.items() if f":{name}" in statement}
        session.connection().execute(text(statement), used)


def event(type_: str) -> tuple[str, str]:
    """One more event at the end of the first job."""
    return (
        "UPDATE job SET event_seq = event_seq + 1 WHERE id = :first",
        "INSERT INTO event (subject, seq, team, type, data, created_at) "  # noqa: S608 - our own words
        f"SELECT id, event_seq, team, '{type_}', '{{\"stage\": \"report\"}}', updated_at FROM job WHERE id = :first",
    )


SPOILED: list[tuple[str, tuple[str, ...]]] = [
    ("every job has ended", ("UPDATE job SET status = 'running' WHERE id = :first",)),
    (
        "a job fails only by its own fault",
        (
            'UPDATE job SET status = \'failed\', error = \'{"code": "worker_lost", "fault": "system"}\' '
            "WHERE id = :first",
        ),
    ),
    ("a job fails only by its own fault", ("UPDATE job SET status = 'failed', error = NULL WHERE id = :first",)),
    ("a job fails only by its own fault", ("UPDATE job SET status = 'cancelled' WHERE id = :first",)),
    (
        "a job that succeeded has succeeded in every stage",
        ("UPDATE stage SET status = 'failed' WHERE name = 'report' AND job_id = :first",),
    ),
    ("no stage outlives its job", ("UPDATE stage SET status = 'ready' WHERE name = 'report' AND job_id = :first",)),
    ("events are numbered from 1 without gaps", ("DELETE FROM event WHERE seq = 3 AND subject = :first",)),
    ("events are numbered from 1 without gaps", ("DELETE FROM event WHERE subject = :first",)),
    ("a job's end is told once, and is its status", event("job.succeeded")),
    (
        "a job's end is told once, and is its status",
        ("UPDATE event SET type = 'job.failed' WHERE type = 'job.succeeded' AND subject = :first",),
    ),
    (
        "a job's end is told once, and is its status",
        ("DELETE FROM event WHERE type = 'job.succeeded' AND subject = :first",),
    ),
    ("nothing is told of a job after its end", event("job.progress")),
    ("a stage's end is told once", event("stage.succeeded")),
    (
        "a stage's end is told once",
        ("UPDATE event SET type = 'job.progress' WHERE type = 'stage.succeeded' AND subject = :first",),
    ),
    ("a stage that succeeded has the artifact that counts for its key", ("UPDATE artifact SET digest = 'other'",)),
    ("a stage that succeeded has the artifact that counts for its key", ("DELETE FROM artifact",)),
    (
        "a stage that succeeded has the artifact that counts for its key",
        ("UPDATE stage SET key = 'other' WHERE id = :lost",),
    ),
    ("only a stage that succeeded has an artifact", ("UPDATE stage SET status = 'skipped' WHERE id = :lost",)),
    (
        "a stage was done by exactly one attempt, or by none where it was reused",
        ("UPDATE attempt SET outcome = 'succeeded' WHERE stage_id = :lost",),
    ),
    (
        "a stage was done by exactly one attempt, or by none where it was reused",
        ("UPDATE stage SET reused = NOT reused WHERE id = :lost",),
    ),
    (
        "the attempt that counts is the last",
        ("UPDATE attempt SET outcome = CASE fence WHEN 1 THEN 'succeeded' ELSE 'failed' END WHERE stage_id = :lost",),
    ),
    ("every claim raised the fence by one", ("UPDATE stage SET fence = 1 WHERE id = :lost",)),
    ("every claim raised the fence by one", ("UPDATE attempt SET fence = 3 WHERE fence = 2 AND stage_id = :lost",)),
    ("every claim raised the fence by one", ("DELETE FROM attempt WHERE stage_id = :released",)),
    (
        "an attempt is over where its stage does not run",
        ("UPDATE attempt SET outcome = 'running', ended_at = NULL WHERE fence = 1 AND stage_id = :lost",),
    ),
    (
        "an attempt is over where its stage does not run",
        ("UPDATE attempt SET ended_at = NULL WHERE stage_id = :released",),
    ),
    ("no stage that goes on has used up its attempts", ("UPDATE stage SET lost_attempts = 3 WHERE id = :lost",)),
    (
        IN_TURN,
        ("UPDATE attempt SET ended_at = (SELECT max(ended_at) FROM attempt) WHERE fence = 1 AND stage_id = :lost",),
    ),
    (IN_TURN, ("UPDATE attempt SET fence = 3 - 2 * fence + 4 WHERE stage_id = :lost",)),
]


def test_a_job_that_was_hurt_and_recovered_breaks_nothing(good: Finished) -> None:
    assert broken(good) == set()
    with good.database.read() as session:
        reused = session.connection().execute(text("SELECT count(*) FROM stage WHERE reused")).scalar_one()
    assert reused > 5


@pytest.mark.parametrize(("invariant", "statements"), SPOILED)
def test_a_spoiled_row_is_seen(good: Finished, invariant: str, statements: tuple[str, ...]) -> None:
    spoil(good, *statements)
    assert invariant in broken(good)


def test_a_running_stage_whose_worker_is_dead_is_seen(good: Finished) -> None:
    spoil(good, "UPDATE stage SET status = 'running', owner = 'host-2-wrk_2' WHERE id = :lost")
    assert OWNED in broken(good, living={"host-1-wrk_1"})
    assert OWNED not in broken(good, living={"host-2-wrk_2"})


def test_two_attempts_at_one_key_by_two_jobs_are_seen(good: Finished) -> None:
    others = ", ".join(name for name in Attempt.model_fields if name != "stage_id")
    twin = (
        f"INSERT INTO attempt (stage_id, {others}) "  # noqa: S608 - our own words
        f"SELECT (SELECT id FROM stage WHERE name = 'ingest' AND job_id <> :first), {others} "
        "FROM attempt WHERE fence = 2 AND stage_id = :lost"
    )
    spoil(good, twin)
    assert IN_TURN in broken(good)


@pytest.mark.parametrize("wrong", ["lost", "untold", "doubled"])
def test_a_job_too_few_or_too_many_is_seen(good: Finished, wrong: str) -> None:
    accepted = {
        "lost": [good.first, good.second, "cjob_gone"],
        "untold": [good.first],
        "doubled": [good.first, good.second, good.second],
    }[wrong]
    assert broken(good, accepted=accepted) == {KEPT}


@pytest.mark.parametrize("wrong", ["byte", "missing file", "further file", "manifest", "name"])
def test_a_spoiled_artifact_is_seen(good: Finished, wrong: str) -> None:
    folder = next((good.artifacts / "artifacts").iterdir())
    match wrong:
        case "byte":
            (folder / "text").write_text("x" * 64)
        case "missing file":
            (folder / "text").unlink()
        case "further file":
            (folder / "more").touch()
        case "manifest":
            (folder / "manifest.json").write_text("{")
        case _:
            folder.rename(folder.with_name("0" * 64 + folder.name[64:]))
    assert WHOLE in broken(good)


def test_an_artifact_that_is_gone_is_seen(good: Finished) -> None:
    shutil.rmtree(next((good.artifacts / "artifacts").iterdir()))
    assert broken(good) == {COUNTED}


def test_every_query_has_a_row_that_breaks_it() -> None:
    assert {invariant for invariant, _ in SPOILED} == {*QUERIES, IN_TURN}
