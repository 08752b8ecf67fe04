"""The coordinator process: its loops go on whatever fails, and an application with them does a whole job."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import insert
from tests.services.gateway.rigs.world import START, FakeBroker, FakeStore, World, manifest_of, new_world, resolved
from tests.tokens import WORKER_TOKEN

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete
from craft.contracts.stages.kinds import Service, StageKind
from craft.core.questions import Task
from craft.errors import Unavailable
from craft.infra.settings.gateway import GatewaySettings
from craft.infra.settings.settings import Settings
from craft_gateway.concurrency import Bell, Loop, Pause, run_loop
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.dispatch import OutboxRelay
from craft_gateway.lifecycle.maintenance import PAGE
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Job, Stage
from craft_gateway.wiring_api import app as gateway_app
from craft_gateway.wiring_coordinator import coordinator_app

KEY = "the operator's key of this test, long enough"
AUTHORISED = {"Authorization": f"Bearer {KEY}"}


class Stopped(BaseException):
    """Ends a loop from inside its pause."""


def run_until_stopped(loop: Loop, *, most: int) -> list[float]:
    """Run the loop until it has paused that often; returns the pauses' seconds."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) >= most:
            raise Stopped

    with pytest.raises(Stopped):
        asyncio.run(run_loop(loop, pause=pause))
    return pauses


def test_a_loop_goes_on_at_once_while_more_is_waiting() -> None:
    more = iter([True, True, False, True, False])
    steps = itertools.count()

    def step() -> bool:
        next(steps)
        return next(more)

    assert run_until_stopped(Loop("test", step, 0.5), most=2) == [0.5, 0.5]
    assert next(steps) == 5


def test_a_loop_survives_a_broker_that_is_down_and_any_defect() -> None:
    outcomes: Iterator[Exception | None] = iter([Unavailable("down"), ValueError("a defect"), None])

    def step() -> bool:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return False

    assert run_until_stopped(Loop("test", step, 0.5), most=3) == [1.0, 1.0, 0.5]


def test_a_bell_ends_a_pause_early_and_counts_for_the_next_one_too() -> None:
    async def seconds_of_pauses() -> list[float]:
        bell, clock = Bell(), asyncio.get_running_loop().time
        bell.ring()  # before the loop runs
        began, taken = clock(), []
        for _ in range(2):
            await bell.cut_short(asyncio.sleep(30.0))
            taken.append(clock() - began)
            threading.Timer(0.05, bell.ring).start()
        await bell.cut_short(asyncio.sleep(30.0))
        await bell.cut_short(asyncio.sleep(0.05))  # nobody rings
        return [*taken, clock() - began]

    assert max(asyncio.run(seconds_of_pauses())) < 10.0


def test_trouble_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="craft.coordinator")
    outcomes: Iterator[Exception | None] = iter([Unavailable("down")] * 3 + [None] * 2)

    def step() -> bool:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return False

    run_until_stopped(Loop("test", step, 0.5), most=5)
    assert [record.message for record in caplog.records] == ["loop_in_trouble", "loop_recovered"]


async def shortly(seconds: float) -> None:
    await asyncio.sleep(0.002)


class HttpWorker:
    """Does what the broker tells it, over HTTP only."""

    def __init__(self, http: TestClient, store: FakeStore) -> None:
        self.http = http
        self.store = store

    def post(self, stage_id: str, action: str, body: str) -> tuple[int, bytes]:
        url, json = f"/internal/stages/{stage_id}/{action}", {"Content-Type": "application/json"}
        answer = self.http.post(url, content=body, headers=json)
        return answer.status_code, answer.content

    def work(self, service: Service, stage_id: str) -> None:
        status, content = self.post(stage_id, "claim", Claim(owner="w", service=service).model_dump_json())
        assert status in {200, 409}
        if status == 409:
            return
        claimed = ClaimedStage.model_validate_json(content)
        manifest = manifest_of(claimed)
        self.store.publish(manifest.ref)
        done = Complete(fence=claimed.fence, manifest=manifest)
        assert self.post(claimed.stage_id, "complete", done.model_dump_json())[0] == 200


def test_messages_that_a_broker_lost_are_sent_again_when_the_application_starts(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, worker_token=WORKER_TOKEN)
    settings.resolved_artifacts_dir.mkdir()
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)
    JobControl(database, exists=FakeStore()).create_job(resolved())
    lost, broker = FakeBroker(), FakeBroker()
    OutboxRelay(database, lost).send_due()
    app = coordinator_app(database, exists=FakeStore(), queues=broker, settings=settings, pause=shortly)
    with TestClient(app, base_url="http://127.0.0.1") as http:
        for _ in range(3_000):
            if broker.sent:
                break
            http.get("/healthz")  # lets the application's loops turn
    assert broker.sent == lost.sent


async def for_ever(seconds: float) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("pause", [shortly, for_ever])
def test_a_whole_job_through_the_application_its_loops_and_messages_alone(tmp_path: Path, pause: Pause) -> None:
    """Where loops pause for ever, each worker's report has the next stage dispatched."""
    settings = Settings(state_dir=tmp_path, worker_token=WORKER_TOKEN)
    settings.resolved_artifacts_dir.mkdir()
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)
    store, broker = FakeStore(), FakeBroker()
    job_id = JobControl(database, exists=store).create_job(resolved()).id
    app = coordinator_app(database, exists=store, queues=broker, settings=settings, pause=pause)
    token = settings.worker_token.get_secret_value()
    with TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {token}"}) as http:
        assert http.get("/readyz").json() == {"status": "ready", "checks": {"database": True}}
        worker = HttpWorker(http, store)
        for _ in range(3_000):
            while broker.sent:
                worker.work(*broker.sent.pop(0))
            with database.read() as session:
                status = session.get_one(Job, job_id).status
            if status.terminal:
                break
            http.get("/healthz")  # lets the application's loops turn
        assert status is JobStatus.SUCCEEDED


def test_a_database_that_was_removed_makes_both_programs_unready_in_words(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, gateway=GatewaySettings(operator_key=SecretStr(KEY)))
    database = Database(settings.resolved_database_url)
    schema.upgrade(database)
    coordinator = coordinator_app(database, exists=FakeStore(), queues=FakeBroker(), settings=settings, pause=shortly)
    with TestClient(coordinator) as of_coordinator, TestClient(gateway_app(settings), headers=AUTHORISED) as of_gateway:
        assert [http.get("/readyz").status_code for http in (of_coordinator, of_gateway)] == [200, 200]
        for file in tmp_path.glob("craft.db*"):
            file.rename(tmp_path / f"away-{file.name}")
        for http in (of_coordinator, of_gateway):
            problem = http.get("/readyz").json()
            assert problem["status"] == 503
            assert "was removed while the service runs" in problem["detail"]
            assert "put the database back" in problem["hint"]
        assert of_gateway.put("/craft/teams/alpha", json={}).status_code == 503


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[World]:
    """100,000 ready stages, dispatched long ago."""
    with new_world(tmp_path) as world:
        old = START - timedelta(hours=1)
        rows = [
            {
                "id": f"stg_{n}",
                "job_id": f"cjob_{n // 50}",
                "name": f"s{n}",
                "kind": StageKind.FLOW,
                "queue": Service.SCORING,
                "position": n % 50,
                "rank": 50,
                "parameters": {"kind": "flow"},
                "inputs": {},
                "depends_on": [],
                "status": StageStatus.READY,
                "attempt": 1,
                "fence": 0,
                "environment_retries": 0,
                "recompute": False,
                "team": "default",
                "key": f"{n:064d}",
                "reused": False,
                "created_at": old,
                "ready_at": old,
                "dispatch_at": old + timedelta(milliseconds=n),
            }
            for n in range(100_000)
        ]
        jobs = [
            Job(
                id=f"cjob_{n}",
                task=Task.OPEN_ENDED,
                team="default",
                resolved={},
                status=JobStatus.RUNNING,
                created_at=old,
                updated_at=old,
            ).model_dump()
            for n in range(2_000)
        ]
        with world.database.write() as session:
            session.connection().execute(insert(Job), jobs)
            session.connection().execute(insert(Stage), rows)
        yield world


def cpu_seconds(step: Callable[[], object]) -> float:
    """Processor time, so that a busy machine does not fail the test."""
    start = time.process_time()
    step()
    return time.process_time() - start


def test_maintenance_and_claims_stay_quick_among_100_000_waiting_stages(crowded: World) -> None:
    redispatch = cpu_seconds(crowded.maintenance.redispatch)
    reap = cpu_seconds(crowded.maintenance.reap)
    relay = cpu_seconds(crowded.relay.send_due)
    stage = crowded.stage("cjob_0", "s1")
    claim = cpu_seconds(lambda: crowded.try_claim(stage))
    print(f"CPU seconds: redispatch {redispatch:.3f} reap {reap:.3f} relay {relay:.3f} claim {claim:.3f}")
    assert len(crowded.outbox()) == PAGE
    assert (redispatch < 1.0, reap < 0.2, relay < 1.0, claim < 0.2) == (True, True, True, True)
