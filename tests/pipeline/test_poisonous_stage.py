"""A stage that kills its process each time fails its own job, with all that is known, and nobody else's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pipeline.worker_rig import WorkerRig, worker_rig
from tests.services.gateway.rigs.world import FakeClock

from craft.contracts.events import StageStatus
from craft.contracts.problems import JobError
from craft.contracts.spec.jobs import JobStatus
from craft.infra.worker.reports import AttemptEnd

POISON = 13
MAX_PAUSE_SECONDS = 300.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Iterator[WorkerRig]:
    with worker_rig(tmp_path, deed="poison", clock=clock) as rig:
        yield rig


def lose(rig: WorkerRig, clock: FakeClock, job_id: str, times: int) -> None:
    for _ in range(times):
        clock.advance(MAX_PAUSE_SECONDS)
        assert rig.work(job_id).result(60) is AttemptEnd.FAILED


def test_after_three_deaths_the_job_has_failed_with_all_that_is_known(rig: WorkerRig, clock: FakeClock) -> None:
    job_id = rig.create(seed=POISON)
    lose(rig, clock, job_id, 3)
    job = rig.job(job_id)
    assert job.status is JobStatus.FAILED
    error = JobError.model_validate(job.error)
    assert (error.code, error.stage, error.attempt, error.exit_signal) == ("worker_lost", "ingest", 3, 9)
    assert error.last_log_lines == ["last words"]
    assert 2**20 < (error.peak_memory_bytes or 0) < 2**34
    assert "SIGKILL" in error.message


def test_each_attempts_last_lines_are_in_the_log(rig: WorkerRig, clock: FakeClock) -> None:
    job_id = rig.create(seed=POISON)
    lose(rig, clock, job_id, 3)
    assert rig.log(job_id) == [(1, "last words"), (2, "last words"), (3, "last words")]


def test_other_jobs_go_on_between_the_deaths_and_after_them(rig: WorkerRig, clock: FakeClock) -> None:
    poisonous = rig.create(seed=POISON)
    others = []
    for seed in (1, 2, 3, 4):
        if not rig.job(poisonous).status.terminal:
            lose(rig, clock, poisonous, 1)
        others.append(rig.create(seed=seed))
        assert rig.work(others[-1]).result(60) is AttemptEnd.COMPLETED
    assert rig.stage(poisonous).fence == 3
    assert {rig.stage(job_id).status for job_id in others} == {StageStatus.SUCCEEDED}
    # Nothing of it is ever handed out again.
    clock.advance(MAX_PAUSE_SECONDS)
    assert rig.work(poisonous).result(60) is AttemptEnd.NOTHING_TO_DO
