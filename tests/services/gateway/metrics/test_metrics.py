"""The coordinator's metrics by their exact names, and calls that succeed although they cannot be counted."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text
from tests.services.gateway.retention.test_retention_scale import plan, statements
from tests.services.gateway.rigs.world import (
    SETTINGS,
    FakeBroker,
    FakeStore,
    World,
    manifest_of,
    observed_maintenance,
    postgres_world,
)

from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew
from craft.errors import CraftError, GpuOutOfMemory, LeaseLost, Unavailable
from craft.infra.settings.settings import Settings
from craft_gateway.metrics.counters import StageMetrics
from craft_gateway.metrics.gauges import DatabaseMetrics
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.wiring_coordinator import coordinator_app
from craft_gateway.worker_api.observed import CountedCalls

POSTGRES_URL = os.environ.get("CRAFT_TEST_POSTGRES_URL")
NAMES = {
    "craft_stage_wait_seconds",
    "craft_stage_seconds",
    "craft_stage_attempts_total",
    "craft_leases_lost_total",
    "craft_generated_tokens_total",
    "craft_generated_tokens_per_second",
    "craft_stages",
    "craft_oldest_ready_seconds",
    "craft_jobs",
    "craft_outbox_unsent",
    "craft_outbox_oldest_unsent_seconds",
    "craft_artifact_store_free_bytes",
    "craft_webhook_attempts_total",
    "craft_webhook_undelivered",
    "craft_webhook_oldest_undelivered_seconds",
}


class CountedWorld:
    """A world that counts workers' calls and lost leases."""

    def __init__(self, world: World, artifacts: Path) -> None:
        self.world = world
        self.registry = CollectorRegistry()
        self.registry.register(DatabaseMetrics(world.database, artifacts))
        self.metrics = StageMetrics(self.registry)
        self.calls = CountedCalls(world.calls, world.database, self.metrics)
        self.maintenance = observed_maintenance(world, self.metrics)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def claim(self, job_id: str, name: str = "ingest") -> ClaimedStage:
        stage = self.world.stage(job_id, name)
        claimed = self.calls.claim(stage.id, Claim(owner="worker-1", service=stage.queue))
        assert claimed is not None
        return claimed

    def completion(self, claimed: ClaimedStage, cost: Cost | None = None) -> Complete:
        manifest = manifest_of(claimed)
        result = manifest.result.model_copy(update={"cost": cost or Cost()})
        manifest = manifest.model_copy(update={"result": result})
        self.world.store.publish(manifest.ref)
        return Complete(fence=claimed.fence, manifest=manifest)

    def fail(self, claimed: ClaimedStage, error: CraftError) -> None:
        self.calls.fail(claimed.stage_id, Fail(fence=claimed.fence, error=StageError.of(error)))

    def attempts(self, **labels: str) -> float | None:
        return self.value("craft_stage_attempts_total", kind="ingest", **labels)


@pytest.fixture
def counted(world: World, tmp_path: Path) -> CountedWorld:
    return CountedWorld(world, tmp_path)


def test_a_claim_tells_how_long_the_stage_had_been_ready(counted: CountedWorld) -> None:
    job_id = counted.world.create(team="search")
    counted.world.clock.advance(7.0)
    counted.claim(job_id)
    assert counted.value("craft_stage_wait_seconds_sum", queue="datasets", team="search") == pytest.approx(7.0)
    assert counted.value("craft_stage_wait_seconds_count", queue="datasets", team="search") == 1


def test_a_stage_that_succeeds_is_counted_with_its_time_and_its_tokens(counted: CountedWorld) -> None:
    claimed = counted.claim(counted.world.create())
    counted.world.clock.advance(20.0)
    done = counted.completion(claimed, Cost(seconds=10.0, generated_tokens=500))
    counted.calls.complete(claimed.stage_id, done)
    assert counted.attempts(outcome="succeeded", code="") == 1
    assert counted.value("craft_stage_seconds_sum", kind="ingest", outcome="succeeded") == pytest.approx(20.0)
    assert counted.value("craft_generated_tokens_total") == 500
    assert counted.value("craft_generated_tokens_per_second_sum", kind="ingest") == pytest.approx(50.0)


def test_a_report_that_is_repeated_counts_once(counted: CountedWorld) -> None:
    claimed = counted.claim(counted.world.create())
    done = counted.completion(claimed, Cost(seconds=1.0, generated_tokens=5))
    for _ in range(3):
        counted.calls.complete(claimed.stage_id, done)
    assert counted.attempts(outcome="succeeded", code="") == 1
    assert counted.value("craft_generated_tokens_total") == 5


def test_a_failure_is_counted_by_its_code(counted: CountedWorld) -> None:
    counted.fail(counted.claim(counted.world.create()), GpuOutOfMemory("full"))
    assert counted.attempts(outcome="failed", code="gpu_oom") == 1


def test_a_code_that_no_error_has_makes_no_label_of_its_own(counted: CountedWorld) -> None:
    claimed = counted.claim(counted.world.create())
    error = StageError.of(GpuOutOfMemory("full")).model_copy(update={"code": "made_up_by_a_worker"})
    counted.calls.fail(claimed.stage_id, Fail(fence=claimed.fence, error=error))
    assert counted.attempts(outcome="failed", code="other") == 1


def test_a_stage_that_is_given_back_and_one_that_is_stopped_are_no_failures(counted: CountedWorld) -> None:
    for cancelled in (False, True):
        claimed = counted.claim(counted.world.create())
        if cancelled:
            counted.world.control.cancel(claimed.job_id)
        counted.calls.release(claimed.stage_id, Release(fence=claimed.fence))
        if not cancelled:
            counted.world.control.cancel(claimed.job_id)
    assert counted.attempts(outcome="released", code="") == 1
    assert counted.attempts(outcome="stopped", code="") == 1


def test_a_lost_lease_is_counted_once_and_the_zombies_report_not_at_all(counted: CountedWorld) -> None:
    claimed = counted.claim(counted.world.create())
    counted.world.clock.advance(SETTINGS.lease_seconds + 1)
    assert counted.maintenance.reap() == 1
    assert counted.maintenance.reap() == 0
    with pytest.raises(LeaseLost):
        counted.calls.complete(claimed.stage_id, counted.completion(claimed))
    with pytest.raises(LeaseLost):
        counted.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    assert counted.value("craft_leases_lost_total", kind="ingest") == 1
    assert counted.attempts(outcome="failed", code="worker_lost") == 1
    assert counted.attempts(outcome="succeeded", code="") is None


def test_a_call_that_cannot_be_counted_has_been_answered_all_the_same(world: World, tmp_path: Path) -> None:
    with empty_database(tmp_path / "empty.db") as broken:
        calls = CountedCalls(world.calls, broken, StageMetrics(CollectorRegistry()))
        stage = world.stage(world.create(), "ingest")
        claimed = calls.claim(stage.id, Claim(owner="worker-1", service=stage.queue))
        assert claimed is not None
        calls.release(claimed.stage_id, Release(fence=claimed.fence))
    assert world.stage(claimed.job_id, "ingest").status is StageStatus.READY


@contextmanager
def empty_database(path: Path) -> Iterator[Database]:
    """A database without tables, so that every query fails."""
    database = Database(f"sqlite:///{path}")
    try:
        yield database
    finally:
        database.close()


def test_stages_are_counted_by_queue_and_status_also_where_there_are_none(counted: CountedWorld) -> None:
    counted.world.create()
    counted.claim(counted.world.create(seed=2))
    assert counted.value("craft_stages", queue="datasets", status="ready") == 1
    assert counted.value("craft_stages", queue="datasets", status="running") == 1
    assert counted.value("craft_stages", queue="training", status="ready") == 0


def test_the_oldest_ready_stage_tells_how_long_nobody_came(counted: CountedWorld) -> None:
    counted.world.create()
    counted.world.clock.advance(30.0)
    counted.world.create(seed=2)
    counted.world.clock.advance(12.0)
    assert counted.value("craft_oldest_ready_seconds", queue="datasets") == pytest.approx(42.0)
    assert counted.value("craft_oldest_ready_seconds", queue="training") == 0


def test_the_pause_after_a_failure_is_no_wait_for_a_worker(counted: CountedWorld) -> None:
    counted.fail(counted.claim(counted.world.create()), Unavailable("away"))
    counted.world.clock.advance(1.0)
    assert counted.value("craft_oldest_ready_seconds", queue="datasets") == 0
    counted.world.clock.advance(60.0)
    waited = counted.value("craft_oldest_ready_seconds", queue="datasets")
    assert waited is not None
    assert 0 < waited < 60


def test_jobs_are_counted_by_status_and_team(counted: CountedWorld) -> None:
    counted.claim(counted.world.create(team="search"))
    counted.world.create(team="search", seed=2)
    assert counted.value("craft_jobs", status="running", team="search") == 1
    assert counted.value("craft_jobs", status="queued", team="search") == 1


def test_what_has_ended_is_not_counted_at_each_scrape_for_ever(counted: CountedWorld) -> None:
    world = counted.world
    for seed in range(30):
        world.control.cancel(world.create(seed=seed))
    running = world.create(seed=100)
    counted.claim(running)
    assert counted.value("craft_jobs", status="cancelled", team="default") is None
    assert counted.value("craft_stages", queue="datasets", status="cancelled") is None
    with world.database.write() as session:
        session.connection().execute(text("ANALYZE"))
    with statements(world) as queries:
        assert counted.value("craft_jobs", status="running", team="default") == 1
    with world.database.engine.connect() as connection:
        steps = [step for statement in queries if "GROUP BY" in statement[0] for step in plan(connection, *statement)]
    assert steps
    assert not [step for step in steps if step.startswith(("SCAN stage", "SCAN job"))]


def test_hints_that_do_not_leave_are_seen_and_those_that_are_not_due_are_not(counted: CountedWorld) -> None:
    world = counted.world
    assert counted.value("craft_outbox_unsent") == 0
    job_id = world.create()
    world.clock.advance(25.0)
    assert counted.value("craft_outbox_unsent") == 1
    assert counted.value("craft_outbox_oldest_unsent_seconds") == pytest.approx(25.0)
    world.relay.send_due()
    assert counted.value("craft_outbox_oldest_unsent_seconds") == 0
    counted.fail(counted.claim(job_id), Unavailable("away"))
    assert counted.value("craft_outbox_unsent") == 0


def test_the_space_for_artifacts_is_told_once_there_is_a_store(counted: CountedWorld, tmp_path: Path) -> None:
    free = counted.value("craft_artifact_store_free_bytes")
    assert free is not None
    assert free > 0
    registry = CollectorRegistry()
    registry.register(DatabaseMetrics(counted.world.database, tmp_path / "nowhere"))
    assert registry.get_sample_value("craft_artifact_store_free_bytes") is None


def test_a_scrape_without_the_database_has_what_is_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with empty_database(tmp_path / "empty.db") as broken:
        registry.register(DatabaseMetrics(broken, tmp_path))
        StageMetrics(registry)
        shown = generate_latest(registry).decode()
    assert "craft_generated_tokens_total 0.0" in shown
    assert "craft_jobs" not in shown


def test_the_coordinator_shows_every_metric_by_its_name(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, artifacts_dir=tmp_path)
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)

    async def for_ever(seconds: float) -> None:
        await asyncio.Event().wait()

    app = coordinator_app(database, exists=FakeStore(), queues=FakeBroker(), settings=settings, pause=for_ever)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        lines = http.get("/metrics").text.splitlines()
    shown = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert shown >= NAMES
    assert any(line.startswith('craft_stages{queue="inference",status="ready"} 0.0') for line in lines)


@pytest.mark.servers
@pytest.mark.skipif(POSTGRES_URL is None, reason="CRAFT_TEST_POSTGRES_URL is not set")
@pytest.mark.parametrize(
    "fact",
    [
        test_a_stage_that_succeeds_is_counted_with_its_time_and_its_tokens,
        test_a_lost_lease_is_counted_once_and_the_zombies_report_not_at_all,
        test_stages_are_counted_by_queue_and_status_also_where_there_are_none,
        test_the_oldest_ready_stage_tells_how_long_nobody_came,
        test_the_pause_after_a_failure_is_no_wait_for_a_worker,
        test_jobs_are_counted_by_status_and_team,
        test_hints_that_do_not_leave_are_seen_and_those_that_are_not_due_are_not,
    ],
)
def test_it_holds_on_postgresql(fact: Callable[[CountedWorld], None], tmp_path: Path) -> None:
    with postgres_world(POSTGRES_URL or "") as world:
        fact(CountedWorld(world, tmp_path))
