"""A worker that gets SIGTERM in a probe or an answer stage returns it at once; the next worker resumes by shards."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from tests.infra.worker.real_worker import PATIENCE_SECONDS, Call, Server, SmallCoordinator, running
from tests.services.inference.test_shards import ANSWER, PROBE
from tests.services.inference.test_stages import OPEN, ingested

from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.kinds import Service
from craft.contracts.stages.parameters import StageParameters
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore

MAX_SECONDS = 5.0
STAGE = "stg_1"


@dataclass(frozen=True)
class InferenceQueue:
    """The queue of the inference service, with the one stage that is offered there."""

    folder: Path
    coordinator: SmallCoordinator
    questions: ArtifactRef

    @contextmanager
    def worker(self, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker whose stages are `killed_stages`."""
        functions, here = "killed_stages:stage_functions", Path(__file__).parent / "rigs"
        port, service = self.coordinator.port, Service.INFERENCE
        with running(self.folder, port, service=service, functions=functions, imports=here, **environment) as process:
            yield process

    def offer(self, parameters: StageParameters) -> None:
        self.coordinator.offer(STAGE, parameters, questions=self.questions)
        send_stage(celery_app(Settings(state_dir=self.folder)), Service.INFERENCE, STAGE)

    def asked_until(self, end: Callable[[Call], bool]) -> list[str]:
        """The questions that were asked before this call."""
        asked: list[str] = []
        while True:
            call = self.coordinator.calls.get(timeout=PATIENCE_SECONDS)
            lines = call.body.get("log_lines", [])
            asked += [line.removeprefix("asked ") for line in lines if line.startswith("asked ")]
            if end(call):
                return asked


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[InferenceQueue]:
    store = FolderStore(Settings(state_dir=tmp_path).resolved_artifacts_dir)
    scratch = store.scratch("questions")
    ingested(scratch / "in", train=OPEN, held_out=OPEN)
    for path in (scratch / "in").iterdir():
        path.rename(scratch / path.name)
    (scratch / "in").rmdir()
    rows = store.publish(scratch, key="0" * 64, kind="dataset", parameters={}, inputs={}, result=StageResult())
    with ExitStack() as stack:
        server = Server(tmp_path / "valkey.sock")
        stack.callback(server.kill)
        coordinator = SmallCoordinator()
        stack.callback(coordinator.close)
        yield InferenceQueue(tmp_path, coordinator, rows.ref)


@pytest.mark.parametrize("parameters", [PROBE, ANSWER], ids=["probe", "answer"])
def test_sigterm_returns_the_stage_within_5_s_and_costs_one_shard_at_most(
    queue: InferenceQueue, parameters: StageParameters
) -> None:
    with queue.worker(HANGS_AT="o5") as stopped:
        queue.offer(parameters)
        before = queue.asked_until(lambda call: "asked o4" in call.body.get("log_lines", []))
        began = monotonic()
        stopped.terminate()
        before += queue.asked_until(lambda call: call.action == "release")
        assert monotonic() - began < MAX_SECONDS
        assert stopped.wait(PATIENCE_SECONDS) == 0
    with queue.worker():
        queue.offer(parameters)
        after = queue.asked_until(lambda call: call.action == "complete")

    assert before == ["o0", "o1", "o2", "o3", "o4"]
    assert after == ["o3", "o4", "o5", "o6"]
