"""One trace holds the POST of a job, its wait, a worker's attempt and the worker's calls, over real sockets."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlmodel import select
from tests.otlp_collector import Collector, ToldSpan, collected
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig
from tests.services.gateway.rigs.world import SETTINGS, World, observed_maintenance, resolved

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.claims import Renew
from craft.errors import GpuOutOfMemory, LeaseLost
from craft.infra.http.app import create_app
from craft.infra.observe import telemetry
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.child_process import ChildOutcome, StageListener, StageWork
from craft.infra.worker.coordinator_client import CoordinatorClient
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.metrics.counters import StageMetrics
from craft_gateway.store.tables import Job, Stage
from craft_gateway.worker_api.observed import CountedCalls
from craft_gateway.worker_api.routes import worker_router

TOKEN = SecretStr("the workers' token")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"


class StoreWithInputs(FolderStore):
    """A store that has every artifact which a stage reads; the rig's datasets are not real."""

    def open(self, ref: ArtifactRef) -> Path:
        return self.scratch(ref.key)


class InstantChild:
    """Runs a test's function in place of a process, and ends at once."""

    def __init__(self, action: Callable[[StageWork], ChildOutcome]) -> None:
        self._action = action

    def start(self, work: StageWork, listener: StageListener) -> None:
        listener.on_log("at work")
        listener.on_outcome(self._action(work))

    def kill(self, *, grace_seconds: float | None = None) -> None:
        """Do nothing: the child has ended."""


@dataclass(frozen=True)
class System:
    """A gateway, a coordinator's calls on a socket, and a collector."""

    rig: Rig
    collector: Collector
    client: CoordinatorClient
    artifacts: Path

    def submit(self) -> Job:
        answer = self.rig.post("/craft/jobs", json=body(), headers={"traceparent": CALLER})
        assert answer.status_code == 202, answer.text
        with self.rig.database.read() as session:
            return session.get_one(Job, answer.json()["id"])

    def work(self, action: Callable[[StageWork], ChildOutcome]) -> AttemptEnd:
        """Let a worker claim the first stage and run `action` for it."""
        with self.rig.database.read() as session:
            stage = session.exec(select(Stage).where(Stage.position == 0)).one()
        runner = StageRunner(
            service=stage.queue,
            owner="worker-1",
            coordinator=self.client,
            store=StoreWithInputs(self.artifacts),
            child=InstantChild(action),
            settings=WorkerSettings(),
        )
        return runner.run(stage.id)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with ExitStack() as stack:
        rig = stack.enter_context(open_rig(tmp_path))
        calls = CountedCalls(rig.calls, rig.database, StageMetrics(CollectorRegistry()))
        app = create_app(title="test", service="coordinator", routers=[worker_router(calls, token=TOKEN)])
        url = stack.enter_context(served(app))
        client = stack.enter_context(CoordinatorClient(url, TOKEN))
        yield System(rig, stack.enter_context(collected()), client, tmp_path / "artifacts")


def named(spans: list[ToldSpan]) -> dict[str, ToldSpan]:
    by_name = {span.name: span for span in spans}
    assert len(by_name) == len(spans), [span.name for span in spans]
    return by_name


def finished(work: StageWork) -> ChildOutcome:
    (work.output / "rows.jsonl").write_text("{}\n")
    return Finished(result=StageResult())


def out_of_memory(work: StageWork) -> ChildOutcome:
    return Failed(error=StageError.of(GpuOutOfMemory("a prompt of a user")), reusable=False)


def test_one_trace_holds_the_post_the_wait_the_attempt_and_its_report(system: System) -> None:
    job = system.submit()
    assert system.work(finished) is AttemptEnd.COMPLETED
    spans = named(system.collector.spans())
    assert {span.trace_id for span in spans.values()} == {TRACE}
    (post,) = [span for span in spans.values() if span.parent_id == CALLERS_SPAN]
    queue, stage = spans["queue"], spans["stage"]
    assert set(spans) == {post.name, "queue", "stage", "POST /internal/stages/{stage_id}/complete"}
    assert post.facts["http.response.status_code"] == 202
    assert job.traceparent == f"00-{TRACE}-{post.span_id}-01"
    assert (queue.parent_id, stage.parent_id) == (post.span_id, post.span_id)
    assert spans["POST /internal/stages/{stage_id}/complete"].parent_id == stage.span_id
    assert queue.began <= queue.ended <= stage.began <= stage.ended
    assert stage.facts["craft.job_id"] == job.id
    assert stage.facts["craft.outcome"] == "completed"
    assert not stage.failed


def test_a_failed_attempt_says_which_error_and_not_its_words(system: System) -> None:
    system.submit()
    assert system.work(out_of_memory) is AttemptEnd.FAILED
    spans = named(system.collector.spans())
    stage = spans["stage"]
    assert stage.failed
    assert (stage.facts["craft.outcome"], stage.facts["craft.error_code"]) == ("failed", "gpu_oom")
    assert spans["POST /internal/stages/{stage_id}/fail"].parent_id == stage.span_id
    assert "prompt of a user" not in str(spans)


def test_an_attempts_lines_carry_the_jobs_trace(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="craft.stage")
    job = system.submit()
    system.work(finished)
    lines = [vars(record) for record in caplog.records if record.name == "craft.stage"]
    assert [line["message"] for line in lines] == ["stage_started", "stage_log", "stage_ended"]
    for line in lines:
        assert (line["job"], line["stage"], line["attempt"], line["trace_id"]) == (job.id, "ingest", 1, TRACE)


def test_of_renewals_only_those_that_go_wrong_are_told(system: System) -> None:
    system.submit()

    def renew_and_finish(work: StageWork) -> ChildOutcome:
        with system.rig.database.read() as session:
            stage = session.exec(select(Stage).where(Stage.position == 0)).one()
        system.client.renew(stage.id, Renew(fence=stage.fence))
        with pytest.raises(LeaseLost):
            system.client.renew(stage.id, Renew(fence=stage.fence + 1))
        return finished(work)

    assert system.work(renew_and_finish) is AttemptEnd.COMPLETED
    spans = named(system.collector.spans())
    renewal = spans["POST /internal/stages/{stage_id}/renew"]
    assert renewal.parent_id == spans["stage"].span_id
    assert renewal.facts["http.response.status_code"] == 409


def test_a_worker_that_is_gone_leaves_a_span_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    maintenance = observed_maintenance(world, StageMetrics(CollectorRegistry()))
    with collected() as collector:
        job_id = world.control.create_job(resolved(), origin=Origin(traceparent=CALLER)).id
        claimed = world.claim(job_id, "ingest", owner="worker-1")
        world.clock.advance(SETTINGS.lease_seconds + 1)
        assert maintenance.reap() == 1
        span = collector.only("stage")
    assert (span.trace_id, span.parent_id) == (TRACE, CALLERS_SPAN)
    assert span.ended - span.began == pytest.approx(SETTINGS.lease_seconds + 1)
    assert span.failed
    assert span.facts["craft.fence"] == claimed.fence
    assert span.facts["craft.outcome"] == "lost"
    assert span.facts["craft.error_code"] == "worker_lost"
    (line,) = [vars(record) for record in caplog.records if record.message == "lease_lost"]
    assert (line["job"], line["stage"], line["attempt"], line["owner"]) == (job_id, "ingest", 1, "worker-1")
    assert line["trace_id"] == telemetry.trace_id_of(CALLER) == TRACE


def test_without_a_collector_the_callers_trace_reaches_the_worker_all_the_same(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        answer = rig.post("/craft/jobs", json=body(), headers={"traceparent": CALLER})
        assert rig.claim(answer.json()["id"]).traceparent == CALLER
