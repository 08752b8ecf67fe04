"""A worker's reactions to failures, with real child processes and a fake coordinator."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.infra.worker.fakes import PATIENCE_SECONDS, TOYS, FakeCoordinator, claimed, environment, gone, report

from craft.contracts.stages.claims import ClaimedStage, Fail, Renew
from craft.contracts.stages.kinds import Service
from craft.errors import Unavailable
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.child_supervisor import WarmChild
from craft.infra.worker.device import acquire_device_if_free, device_lock
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner


class Bench:
    """A worker's runner with its own device and a real child."""

    def __init__(self, folder: Path, settings: WorkerSettings) -> None:
        self.coordinator = FakeCoordinator()
        self.child = WarmChild(TOYS, settings, environment=environment())
        self.lock = folder / "device.lock"
        self.checkpoints = folder / "checkpoints"
        self.runner = StageRunner(
            service=Service.SCORING,
            owner="host-1-wrk_1",
            coordinator=self.coordinator,
            store=FolderStore(folder),
            child=self.child,
            settings=settings,
            device_lock=device_lock(self.lock),
        )

    def give(self, do: str, *, beat_seconds: float = 0.1, timeout_seconds: float = 3600.0) -> None:
        stage = claimed(beat_seconds=beat_seconds, timeout_seconds=timeout_seconds)
        self.coordinator.claimed = ClaimedStage.model_validate(dict(stage) | {"parameters": report(do=do)})

    def progress(self) -> tuple[int, int]:
        """Wait for the stage's next progress report."""
        while True:
            said = self.coordinator.said.get(timeout=PATIENCE_SECONDS)
            if isinstance(said, Renew) and said.progress is not None:
                return said.progress.done, said.progress.total


@contextmanager
def bench(folder: Path, settings: WorkerSettings) -> Iterator[Bench]:
    made = Bench(folder, settings)
    try:
        yield made
    finally:
        made.child.close()


def test_a_worker_that_cannot_renew_kills_its_own_child_and_what_that_started(tmp_path: Path) -> None:
    with bench(tmp_path, WorkerSettings(give_up_seconds=1.0)) as worker, ThreadPoolExecutor(1) as thread:
        worker.give("stubborn")
        done = thread.submit(worker.runner.run, "stg_1")
        child, grandchild = worker.progress()
        worker.coordinator.errors["renew"] = [Unavailable("away")] * 1_000_000
        assert done.result(PATIENCE_SECONDS) is AttemptEnd.LOST
        assert gone(child)
        assert gone(grandchild)
        assert not {"complete", "fail"} & set(worker.coordinator.calls)


def test_a_child_that_hangs_and_ignores_sigterm_is_dead_10_s_after_its_deadline_and_the_device_is_free(
    tmp_path: Path,
) -> None:
    timeout_seconds = 3.0
    with bench(tmp_path, WorkerSettings()) as worker, ThreadPoolExecutor(1) as thread:
        worker.give("stubborn", timeout_seconds=timeout_seconds)
        began = time.monotonic()
        done = thread.submit(worker.runner.run, "stg_1")
        child, grandchild = worker.progress()
        with acquire_device_if_free(worker.lock) as acquired:
            assert not acquired
        assert done.result(PATIENCE_SECONDS) is AttemptEnd.FAILED
        assert time.monotonic() - began < timeout_seconds + 10
        assert gone(child)
        assert gone(grandchild)
        with acquire_device_if_free(worker.lock) as acquired:
            assert acquired
    fail = worker.coordinator.last()
    assert isinstance(fail, Fail)
    assert fail.error.code == "timeout"


def test_every_line_that_a_killed_child_printed_arrives(tmp_path: Path) -> None:
    with bench(tmp_path, WorkerSettings()) as worker:
        worker.give("babble_and_die")
        assert worker.runner.run("stg_1") is AttemptEnd.FAILED
    said = [worker.coordinator.said.get() for _ in range(worker.coordinator.said.qsize())]
    assert [line for call in said for line in call.log_lines] == [f"line {n}" for n in range(2500)]


def test_a_dead_childs_error_has_its_signal_its_last_lines_and_its_peak_memory(tmp_path: Path) -> None:
    with bench(tmp_path, WorkerSettings()) as worker:
        worker.give("die")
        worker.runner.run("stg_1")
    fail = worker.coordinator.last()
    assert isinstance(fail, Fail)
    assert (fail.error.exit_signal, fail.error.last_log_lines) == (9, ["last words"])
    assert 2**20 < (fail.error.peak_memory_bytes or 0) < 2**34


def test_a_stage_that_is_given_back_has_saved_and_goes_on_in_the_next_attempt(tmp_path: Path) -> None:
    with bench(tmp_path, WorkerSettings()) as worker, ThreadPoolExecutor(1) as thread:
        worker.give("long")
        done = thread.submit(worker.runner.run, "stg_1")
        worker.progress()
        worker.runner.stop()
        assert done.result(5) is AttemptEnd.RELEASED
        (folder,) = worker.checkpoints.iterdir()
        assert (folder / "saved").read_text() == "half"
    with bench(tmp_path, WorkerSettings()) as another:
        another.give("long")
        assert another.runner.run("stg_1") is AttemptEnd.COMPLETED
