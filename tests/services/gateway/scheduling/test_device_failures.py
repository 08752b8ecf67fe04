"""A stage that failed with a device goes to another place, is charged to nobody meanwhile, and says why it waits."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.services.gateway.rigs.public_rig import Rig, open_rig
from tests.services.gateway.rigs.world import SETTINGS, World

from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.claims import Claim, ClaimedStage, Fail, owner_at
from craft.contracts.stages.kinds import Service
from craft.errors import DeviceFailed
from craft.infra.storage.sick_workers import SickWorkers
from craft_gateway.job_views.reader import JobReader
from craft_gateway.scheduling.device_failures import pause_seconds
from craft_gateway.scheduling.queue import QueueSnapshots

ECC = DeviceFailed("The device failed: CUDA error: uncorrectable ECC error encountered")
STAGE = "ingest"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


def at(place: str, start: int = 1) -> str:
    """The owner name of a place's worker; each restart has another."""
    return owner_at(place, 100 + start, f"wrk_{start}")


def tried(world: World, job_id: str, owner: str) -> ClaimedStage | None:
    return world.try_claim(world.stage(job_id, STAGE), owner)


def failed_at(world: World, job_id: str, owner: str) -> None:
    claimed = tried(world, job_id, owner)
    assert claimed is not None
    world.fail(claimed, ECC)


def test_a_place_whose_device_failed_gets_the_stage_no_more_and_another_gets_it_at_once(world: World) -> None:
    job_id = world.create()
    failed_at(world, job_id, at("sick"))
    assert tried(world, job_id, at("sick", start=2)) is None
    assert tried(world, job_id, at("well")) is not None


def test_no_attempt_is_charged_for_a_device_that_failed(world: World) -> None:
    job_id = world.create()
    for place in ("a", "b"):
        failed_at(world, job_id, at(place))
    stage = world.stage(job_id, STAGE)
    assert (stage.status, stage.attempt, stage.lost_attempts) == (StageStatus.READY, 1, 0)
    world.complete(tried(world, job_id, at("well")) or pytest.fail("not offered"))
    assert world.stage(job_id, STAGE).status is StageStatus.SUCCEEDED


def test_a_place_stays_without_the_stage_as_long_as_another_place_works_for_the_queue(world: World) -> None:
    job_id, urgent = world.create(), world.create(seed=2, priority=90)
    assert world.claim(urgent, STAGE, at("well")).job_id == urgent
    failed_at(world, job_id, at("sick"))
    world.clock.away(10 * pause_seconds(1))
    assert tried(world, job_id, at("sick", start=2)) is None


def test_where_no_other_place_is_known_the_same_one_gets_the_stage_after_a_pause_and_is_charged(world: World) -> None:
    job_id = world.create()
    failed_at(world, job_id, at("only"))
    world.clock.advance(pause_seconds(1) - 1)
    assert tried(world, job_id, at("only", start=2)) is None
    world.clock.advance(2)
    failed_at(world, job_id, at("only", start=2))
    assert world.stage(job_id, STAGE).lost_attempts == 1


def test_a_message_falls_due_when_the_pause_of_the_only_place_is_over(world: World) -> None:
    job_id = world.create()
    failed_at(world, job_id, at("only"))
    pauses = [(row.due_at - world.clock.now).total_seconds() for row in world.outbox()]
    assert pauses[-2:] == [0.0, pause_seconds(1)]


def test_a_message_that_reached_the_sick_place_is_sent_again(world: World) -> None:
    job_id = world.create()
    failed_at(world, job_id, at("sick"))
    before = len(world.outbox())
    tried(world, job_id, at("sick", start=2))
    again = world.outbox()[before:]
    assert [row.stage_id for row in again] == [world.stage(job_id, STAGE).id]
    assert again[0].due_at > world.clock.now


def test_a_stage_that_fails_every_device_ends_its_job(world: World) -> None:
    job_id, failures = world.create(), 0
    while not world.job(job_id).status.terminal:
        failures += 1
        assert failures <= 2 * SETTINGS.max_lost_attempts, "the stage goes round for ever"
        failed_at(world, job_id, at(f"place{failures}"))
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["fault"]) == ("device_failed", "system")
    assert failures > SETTINGS.max_lost_attempts


def test_one_sick_place_does_not_fail_its_job_sooner_than_a_lost_worker_does(world: World) -> None:
    job_id, failures = world.create(), 0
    while not world.job(job_id).status.terminal:
        failures += 1
        failed_at(world, job_id, at("only", start=failures))
        world.clock.advance(pause_seconds(failures) + 1)
    assert failures == SETTINGS.max_lost_attempts + 1


def test_a_job_with_only_a_sick_worker_says_so(rig: Rig) -> None:
    first, second = rig.submit(), rig.submit(seed=7)
    claimed = rig.claim(first)
    rig.calls.fail(claimed.stage_id, Fail(fence=claimed.fence, error=StageError.of(ECC)))
    for job_id in (first, second):
        reason = rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]
        assert "worker with a working device" in reason
        assert "uncorrectable ECC" in reason
    # Another place works: then they wait for their turn.
    claim = Claim(owner=at("gpu-b"), service=Service.DATASETS)
    assert rig.calls.claim(claimed.stage_id, claim) is not None
    for job_id in (first, second):
        assert "working device" not in rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]


def test_a_job_whose_only_worker_fails_its_self_test_says_so_before_any_attempt(rig: Rig) -> None:
    notes = SickWorkers(rig.artifacts)
    rig.reader = JobReader(rig.database, QueueSnapshots(sick_workers=notes.of, clock=count().__next__))
    rig.app = rig.new_app()
    job_id = rig.submit()
    notes.note(Service.TRAINING, "gpu-a", "of another queue")
    assert "working device" not in rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]
    notes.note(Service.DATASETS, "gpu-a", "the NVIDIA driver is too old")
    reason = rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]
    assert reason == "waits for a datasets worker with a working device: the NVIDIA driver is too old"
    rig.claim(job_id)
    assert "working device" not in rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]
