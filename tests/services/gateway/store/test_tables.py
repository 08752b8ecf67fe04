"""The tables and the database: times, enums, JSON, locks and the database's own clock."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError
from sqlmodel import select
from tests.services.gateway.rigs.world import World

from craft.contracts.spec.jobs import JobStatus
from craft.core.questions import Task
from craft.errors import Unavailable
from craft_gateway.store import schema
from craft_gateway.store.database import Database, database_clock
from craft_gateway.store.tables import Dataset, Job

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def a_job(job_id: str = "cjob_1", created_at: datetime = NOON) -> Job:
    return Job(
        id=job_id,
        task=Task.OPEN_ENDED,
        team="default",
        resolved={"größe": 1},
        status=JobStatus.QUEUED,
        created_at=created_at,
        updated_at=created_at,
    )


def stored(world: World, job: Job) -> Job:
    with world.database.write() as session:
        session.add(job)
    return world.job(job.id)


def test_a_time_of_another_zone_comes_back_as_the_same_moment_in_utc(world: World) -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    job = stored(world, a_job(created_at=tokyo))
    assert job.created_at == NOON
    assert job.created_at.tzinfo is UTC


def test_a_naive_time_is_refused(world: World) -> None:
    with pytest.raises(StatementError, match="naive"):
        stored(world, a_job(created_at=NOON.replace(tzinfo=None)))


def test_enums_and_json_come_back_as_what_they_were(world: World) -> None:
    job = stored(world, a_job())
    assert (job.status, job.task, job.resolved, job.labels, job.error) == (
        JobStatus.QUEUED,
        Task.OPEN_ENDED,
        {"größe": 1},
        {},
        None,
    )
    assert isinstance(job.status, JobStatus)


def test_an_absent_error_is_null_in_sql(world: World) -> None:
    stored(world, a_job())
    with world.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM job WHERE error IS NULL").scalar_one() == 1


def test_times_sort_in_sql_as_they_do_in_python(world: World) -> None:
    moments = [NOON, NOON.replace(microsecond=0), NOON + timedelta(days=300), NOON - timedelta(microseconds=1)]
    for number, moment in enumerate(moments):
        stored(world, a_job(f"cjob_{number}", moment))
    with world.database.read() as session:
        found = session.exec(select(Job.created_at).order_by("created_at")).all()
        later = session.exec(select(Job.id).where(Job.created_at > NOON)).all()
    assert list(found) == sorted(moments)
    assert later == ["cjob_2"]


def test_the_databases_clock_is_utc_and_moves_within_a_transaction(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'craft.db'}")
    with database.read() as session:
        first = database_clock(session)
        assert first.tzinfo is UTC
        assert abs((datetime.now(UTC) - first).total_seconds()) < 5
        assert database.now(session) >= first
    database.close()


def test_a_reader_sees_the_old_state_while_a_writer_works(world: World) -> None:
    with world.database.write() as session:
        session.add(a_job())
        session.flush()
        with world.database.read() as other:
            assert other.get(Job, "cjob_1") is None


def test_many_writers_wait_for_each_other_and_none_is_refused(world: World) -> None:
    stored(world, a_job())

    def count_up(_: int) -> None:
        with world.database.write() as session:
            job = session.get_one(Job, "cjob_1")
            job.event_seq += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(80)))
    assert world.job("cjob_1").event_seq == 80


def test_what_raises_in_a_transaction_leaves_nothing(world: World) -> None:
    def fails() -> None:
        with world.database.write() as session:
            session.add(a_job())
            raise KeyError("a defect")

    with pytest.raises(KeyError):
        fails()
    with world.database.read() as session:
        assert session.get(Job, "cjob_1") is None


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "craft.db").mkdir()  # a folder where the file should be
    database = Database(f"sqlite:///{tmp_path / 'craft.db'}")
    yield database
    database.close()


def test_a_database_that_does_not_answer_is_unavailable_not_a_stack_trace(nowhere: Database) -> None:
    with pytest.raises(Unavailable):
        schema.is_current(nowhere)


def test_a_postgresql_url_means_psycopg_3() -> None:
    database = Database("postgresql://someone@localhost/craft")
    assert database.engine.dialect.driver == "psycopg"
    assert not database.is_sqlite
    database.close()


def test_a_dataset_points_at_its_artifact(world: World) -> None:
    with world.database.write() as session:
        session.add(
            Dataset(
                team="default",
                id="dset_1",
                task=Task.MULTIPLE_CHOICE,
                rows=3,
                key="a" * 64,
                digest="b" * 64,
                content_hash="c" * 64,
                created_at=NOON,
            )
        )
    with world.database.read() as session:
        assert session.get_one(Dataset, "dset_1").ref.digest == "b" * 64
