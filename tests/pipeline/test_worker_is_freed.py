"""A cancel frees the worker in less than 5 s, whatever it is doing, with the default settings."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from tests.infra.worker.fakes import gone
from tests.pipeline.worker_rig import WorkerRig, worker_rig

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.infra.worker.device import acquire_device_if_free, device_lock
from craft.infra.worker.reports import AttemptEnd

MAX_SECONDS = 5.0
PATIENCE_SECONDS = 30.0


def cancelled_in(rig: WorkerRig, job_id: str, done: "Future[AttemptEnd]") -> float:
    """Cancels; the seconds until the worker is free and the job has ended."""
    began = time.monotonic()
    rig.control.cancel(job_id)
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.RELEASED
    seconds = time.monotonic() - began
    assert rig.job(job_id).status is JobStatus.CANCELLED
    return seconds


@pytest.fixture
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerRig]:
    with worker_rig(tmp_path, deed=request.param) as rig:
        yield rig


@pytest.mark.parametrize("busy", ["steps", "spin", "numb"], indirect=True)
def test_a_cancel_in_the_middle_of_work_that_says_nothing_frees_the_worker_in_time(busy: WorkerRig) -> None:
    job_id = busy.create()
    done = busy.work(job_id)
    busy.wait_until_begun()
    child = busy.child.pid
    assert child is not None
    assert cancelled_in(busy, job_id, done) < MAX_SECONDS
    assert gone(child)
    with acquire_device_if_free(busy.lock) as acquired:
        assert acquired


@pytest.mark.parametrize("busy", ["steps"], indirect=True)
def test_what_a_stage_saved_in_its_grace_is_there_for_the_next_attempt(busy: WorkerRig) -> None:
    job_id = busy.create()
    done = busy.work(job_id)
    busy.wait_until_begun()
    busy.runner.stop()
    assert done.result(MAX_SECONDS) is AttemptEnd.RELEASED
    stage = busy.stage(job_id)
    assert (stage.status, stage.attempt) == (StageStatus.READY, 1)
    assert stage.key is not None
    assert (busy.store.checkpoint(stage.key) / "saved").read_text() == "a whole step"


@pytest.mark.parametrize("busy", ["spin"], indirect=True)
def test_a_cancel_while_the_devices_memory_is_waited_for_frees_the_worker_in_time(busy: WorkerRig) -> None:
    asked, never = threading.Event(), threading.Event()

    def wait_for_memory() -> None:
        asked.set()
        never.wait()

    busy.room = wait_for_memory
    job_id = busy.create()
    done = busy.work(job_id)
    assert asked.wait(PATIENCE_SECONDS)
    assert cancelled_in(busy, job_id, done) < MAX_SECONDS
    never.set()
    assert busy.child.pid is None


@pytest.mark.parametrize("busy", ["spin"], indirect=True)
def test_a_job_whose_stage_waits_for_the_device_is_cancelled_at_once(busy: WorkerRig) -> None:
    with device_lock(busy.lock)(threading.Event()):
        job_id = busy.create()
        done = busy.work(job_id)
        assert busy.control.cancel(job_id) is JobStatus.CANCELLED
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.NOTHING_TO_DO
    assert busy.child.pid is None
