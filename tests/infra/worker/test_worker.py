"""A real Celery worker with a real Valkey runs stages of a small coordinator over real sockets."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.infra.worker.real_worker import PATIENCE_SECONDS, TOKEN, Server, SmallCoordinator, running

from craft.contracts.stages.claims import Complete, Fail
from craft.contracts.stages.kinds import Service, StageKind
from craft.errors import Unavailable
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.settings.coordinator import CoordinatorSettings
from craft.infra.settings.settings import Settings
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import FolderStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w o")  # a space, because people have them in their paths


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder / "valkey.sock")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def coordinator() -> Iterator[SmallCoordinator]:
    coordinator = SmallCoordinator()
    yield coordinator
    coordinator.close()


@pytest.fixture(scope="module")
def settings(folder: Path, coordinator: SmallCoordinator) -> Settings:
    return Settings(
        state_dir=folder,
        coordinator=CoordinatorSettings(port=coordinator.port),
        worker=WorkerSettings(grace_seconds=5),
    )


@pytest.fixture(scope="module")
def worker(folder: Path, server: Server, coordinator: SmallCoordinator) -> Iterator["subprocess.Popen[bytes]"]:
    with running(folder, coordinator.port) as process:
        yield process


Submit = Callable[..., None]


@pytest.fixture
def submit(settings: Settings, coordinator: SmallCoordinator, worker: "subprocess.Popen[bytes]") -> Submit:
    app = celery_app(settings)

    def send(stage_id: str, **job: object) -> None:
        coordinator.offer_toy(stage_id, **job)
        send_stage(app, Service.SCORING, stage_id)

    return send


def test_a_dispatch_message_leads_to_a_published_artifact(
    submit: Submit, coordinator: SmallCoordinator, settings: Settings
) -> None:
    submit("stg_1", do="write", text="from a worker")
    call = coordinator.wait_for("complete")
    complete = Complete.model_validate(call.body)
    assert (call.stage_id, call.token, complete.fence) == ("stg_1", f"Bearer {TOKEN}", 7)
    artifact = FolderStore(settings.resolved_artifacts_dir).open(complete.manifest.ref)
    assert (artifact / "text").read_text() == "from a worker"
    assert complete.manifest.kind is StageKind.REPORT
    assert complete.manifest.result.counts["pid"] > 0


def test_the_next_stage_finds_the_child_warm(submit: Submit, coordinator: SmallCoordinator) -> None:
    pids = set()
    for stage_id in ("stg_2", "stg_3"):
        submit(stage_id, do="write")
        pids.add(coordinator.wait_for("complete").body["manifest"]["result"]["counts"]["pid"])
    assert len(pids) == 1


def test_a_dispatch_message_for_an_unknown_stage_costs_one_call(
    submit: Submit, coordinator: SmallCoordinator, settings: Settings
) -> None:
    send_stage(celery_app(settings), Service.SCORING, "stg_unknown")
    submit("stg_4", do="write")
    seen: list[tuple[str, str]] = []
    while not seen or seen[-1] != ("stg_4", "complete"):
        call = coordinator.calls.get(timeout=PATIENCE_SECONDS)
        seen.append((call.stage_id, call.action))
    assert [action for stage_id, action in seen if stage_id == "stg_unknown"] == ["claim"]


def test_a_dead_child_is_reported_and_the_worker_lives_on(submit: Submit, coordinator: SmallCoordinator) -> None:
    submit("stg_5", do="die")
    fail = Fail.model_validate(coordinator.wait_for("fail").body)
    assert (fail.error.code, fail.error.exit_signal) == ("worker_lost", signal.SIGKILL)
    assert fail.error.last_log_lines == ["last words"]
    submit("stg_6", do="write")
    coordinator.wait_for("complete")


def test_forged_and_garbled_messages_change_nothing(
    submit: Submit, coordinator: SmallCoordinator, settings: Settings
) -> None:
    app = celery_app(settings)
    app.send_task("os.system", args=["true"], queue="scoring")
    app.send_task("craft.stage", args=[1, 2, 3], queue="scoring")
    app.send_task("craft.stage", kwargs={"stage_id": "../../etc"}, queue="scoring")
    submit("stg_7", do="write")
    assert coordinator.wait_for("complete").stage_id == "stg_7"


def test_a_worker_and_a_sender_outlive_their_broker(
    submit: Submit, coordinator: SmallCoordinator, server: Server
) -> None:
    server.kill()
    with pytest.raises(Unavailable):
        submit("stg_8", do="write")
    server.start()
    submit("stg_8", do="write")
    assert coordinator.wait_for("complete").stage_id == "stg_8"


def test_a_frozen_broker_delays_a_sender_only_for_seconds(server: Server, settings: Settings) -> None:
    app = celery_app(settings)
    send_stage(app, Service.TRAINING, "stg_x")
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable):
            send_stage(app, Service.TRAINING, "stg_x")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 30


def test_a_queue_without_readers_cannot_be_sent_to(settings: Settings, server: Server) -> None:
    with pytest.raises(Exception, match="scorign"):
        celery_app(settings).send_task("craft.stage", queue="scorign")


def test_lines_that_were_printed_before_the_worker_was_killed_have_arrived(
    folder: Path, settings: Settings, coordinator: SmallCoordinator, submit: Submit, worker: "subprocess.Popen[bytes]"
) -> None:
    submit("stg_busy", do="long")  # the module's worker is not the one that gets killed
    coordinator.wait_for("claim")
    with running(folder, coordinator.port) as other:
        submit("stg_doomed", do="mutter")
        lines: list[str] = []
        while "line 9" not in lines:
            renewed = coordinator.wait_for("renew")
            if renewed.stage_id == "stg_doomed":
                lines += renewed.body["log_lines"]
        other.kill()
    assert lines == [f"line {n}" for n in range(10)]
    coordinator.stop = True
    while coordinator.wait_for("release").stage_id != "stg_busy":
        pass
    coordinator.stop = False


def test_on_sigterm_the_stage_is_given_back_and_another_worker_resumes_it_within_5_s(
    folder: Path, settings: Settings, coordinator: SmallCoordinator, submit: Submit, worker: "subprocess.Popen[bytes]"
) -> None:
    submit("stg_9", do="long")
    while not (renewed := coordinator.wait_for("renew")).body["progress"]:
        pass
    child = renewed.body["progress"]["total"]
    with running(folder, coordinator.port):
        # Another worker is there: the first one is busy, so this is its work.
        submit("stg_10", do="write")
        coordinator.wait_for("complete")
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        released = coordinator.wait_for("release")
        assert (released.stage_id, released.body["fence"]) == ("stg_9", 7)
        submit("stg_9", do="long")
        complete = Complete.model_validate(coordinator.wait_for("complete").body)
        assert time.monotonic() - began < 5
    assert worker.wait(PATIENCE_SECONDS) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    artifact = FolderStore(settings.resolved_artifacts_dir).open(complete.manifest.ref)
    assert (artifact / "text").read_text() == "resumed"
