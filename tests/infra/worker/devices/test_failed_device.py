"""A worker whose device fails gives its stage back and ends: it never takes, and fails, the stages after it."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.infra.worker.real_worker import PATIENCE_SECONDS, Server, SmallCoordinator, running
from tests.infra.worker.test_runner import Scene, answers

from craft.contracts.problems import StageError
from craft.contracts.stages.claims import Fail, place_of
from craft.contracts.stages.kinds import Service
from craft.errors import DeviceFailed, GpuOutOfMemory, Unavailable
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.settings.coordinator import CoordinatorSettings
from craft.infra.settings.settings import Settings
from craft.infra.stage.channel import Failed
from craft.infra.worker.child_process import ChildOutcome, Died, StageListener, StageWork
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.worker import EXIT_DEVICE_FAILED

ECC = Failed(error=StageError.of(DeviceFailed("CUDA error: uncorrectable ECC error")), reusable=False)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "valkey.sock")
    yield server
    server.kill()


@pytest.fixture
def coordinator() -> Iterator[SmallCoordinator]:
    coordinator = SmallCoordinator()
    yield coordinator
    coordinator.close()


def crashes(exit_signal: signal.Signals, *lines: str) -> Callable[[StageWork, StageListener], ChildOutcome]:
    def answer(work: StageWork, listener: StageListener) -> ChildOutcome:
        for line in lines:
            listener.on_log(line)
        return Died(exit_signal=exit_signal, exit_code=None, peak_memory_bytes=0)

    return answer


def test_a_failed_device_is_reported_and_ends_the_worker_whatever_becomes_of_the_report(scene: Scene) -> None:
    scene.child.answer = answers(ECC)
    assert scene.run() is AttemptEnd.DEVICE_FAILED
    said = scene.coordinator.last()
    assert isinstance(said, Fail)
    assert (said.error.code, said.error.retryable) == ("device_failed", True)
    scene.coordinator.errors["fail"] = [Unavailable("away")]
    assert scene.run() is AttemptEnd.DEVICE_FAILED


def test_any_other_failure_leaves_the_worker_at_work(scene: Scene) -> None:
    scene.child.answer = answers(Failed(error=StageError.of(GpuOutOfMemory("full")), reusable=False))
    assert scene.run() is AttemptEnd.FAILED


def test_a_crash_below_python_that_tells_of_the_device_is_a_failed_device(scene: Scene) -> None:
    scene.child.answer = crashes(signal.SIGABRT, "what():  CUDA error: an illegal memory access was encountered")
    assert scene.run() is AttemptEnd.DEVICE_FAILED
    said = scene.coordinator.last()
    assert isinstance(said, Fail)
    assert "illegal memory access" in said.error.message


@pytest.mark.parametrize(
    ("exit_signal", "line"),
    [(signal.SIGABRT, "terminate called"), (signal.SIGKILL, "CUDA error: an illegal memory access was encountered")],
)
def test_other_deaths_are_none(scene: Scene, exit_signal: signal.Signals, line: str) -> None:
    scene.child.answer = crashes(exit_signal, line)
    assert scene.run() is AttemptEnd.FAILED


def test_a_worker_reports_its_failed_device_exits_with_its_own_code_and_leaves_the_next_stage_alone(
    tmp_path: Path, server: Server, coordinator: SmallCoordinator
) -> None:
    settings = Settings(state_dir=tmp_path, coordinator=CoordinatorSettings(port=coordinator.port))
    app = celery_app(settings)
    with running(tmp_path, coordinator.port) as worker:
        coordinator.offer_toy("stg_1", do="device_fails")
        coordinator.offer_toy("stg_2", do="write")
        send_stage(app, Service.SCORING, "stg_1")
        send_stage(app, Service.SCORING, "stg_2")
        assert worker.wait(PATIENCE_SECONDS) == EXIT_DEVICE_FAILED
    fail = Fail.model_validate(coordinator.wait_for("fail").body)
    assert fail.error.code == "device_failed"
    assert "stg_2" in coordinator.stages, "a worker with a failed device took another stage"


def test_a_restarted_worker_is_another_owner_at_the_same_place(
    tmp_path: Path, server: Server, coordinator: SmallCoordinator
) -> None:
    settings = Settings(state_dir=tmp_path, coordinator=CoordinatorSettings(port=coordinator.port))
    owners = []
    for _ in range(2):
        with running(tmp_path, coordinator.port):
            send_stage(celery_app(settings), Service.SCORING, "stg_unknown")
            owners.append(str(coordinator.wait_for("claim").body["owner"]))
    assert owners[0] != owners[1]
    assert place_of(owners[0]) == place_of(owners[1]) not in owners
