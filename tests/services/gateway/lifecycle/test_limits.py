"""A running stage keeps its team's limits, and gives way to other teams after a slice of time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.gateway.rigs.world import SETTINGS, World, new_world, resolved

from craft.contracts.events import EventType
from craft.contracts.public.accounts import TeamSettings
from craft.contracts.stages.claims import Claim, ClaimedStage, Renew, StageProgress
from craft.core.strategies import Strategy
from craft.errors import LeaseLost, QuotaExceeded
from craft_gateway.lifecycle.creation import CreatedJob, NewJob, Origin
from craft_gateway.plan.stages import ResolvedJob, plan

SLICE = SETTINGS.slice_seconds


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path) as made:
        yield made


def _probing(world: World, team: str, *, seed: int = 42) -> ClaimedStage:
    """The probe of a new job of the team, claimed."""
    job = world.create(Strategy.CRAFT, team=team, seed=seed)
    world.do(job, "ingest")
    return world.claim(job, "probe:initial")


def _waiting(world: World, team: str) -> str:
    """A job of the team whose probe waits."""
    job = world.create(Strategy.CRAFT, team=team, seed=7)
    world.do(job, "ingest")
    return job


def _job(seed: int) -> ResolvedJob:
    return resolved(seed=seed)


def _asked_to_stop(world: World, claimed: ClaimedStage, *, saved: bool = True) -> bool:
    progress = StageProgress(done=1, total=8, saved=saved)
    return world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=progress)).stop


def test_a_stage_goes_on_while_nobody_else_waits(world: World) -> None:
    running = _probing(world, "alpha")
    world.create(Strategy.CRAFT, team="alpha", seed=3)
    world.clock.advance(SLICE * 5)
    assert not _asked_to_stop(world, running)


def test_after_a_slice_a_stage_gives_way_to_another_team_and_goes_on_later(world: World) -> None:
    running = _probing(world, "alpha")
    other = _waiting(world, "beta")
    world.clock.advance(SLICE - 1)
    assert not _asked_to_stop(world, running)
    world.clock.advance(2)
    assert _asked_to_stop(world, running)
    world.release(running)
    attempt = world.stage(running.job_id, "probe:initial").attempt
    assert attempt == 1, "giving way uses up no attempt"
    # Whichever stage the message names, the other team's is given out.
    claimed = world.calls.claim(running.stage_id, Claim(owner="w", service=world.stage(other, "probe:initial").queue))
    assert claimed is not None
    assert claimed.job_id == other
    assert world.stage(running.job_id, "probe:initial").key == running.key, "so its shards and checkpoints count"


def test_a_stage_does_not_give_way_to_one_that_waits_for_its_result(world: World) -> None:
    running = _probing(world, "alpha")
    world.do(running.job_id, "answer:basic", "answer:refuse")
    other = world.create(Strategy.CRAFT, team="beta")
    assert {stage.name for stage in world.stages(other).values() if stage.status == "ready"} == {"probe:initial"}
    world.clock.advance(SLICE + 1)
    assert not _asked_to_stop(world, running)
    _waiting(world, "beta")
    assert _asked_to_stop(world, running), "other work of the same team has its turn"


def test_a_stage_gives_way_only_when_its_attempt_has_saved_something(world: World) -> None:
    running = _probing(world, "alpha")
    _waiting(world, "beta")
    world.clock.advance(SLICE * 3)
    assert not _asked_to_stop(world, running, saved=False), "it would begin the same shard again each time"
    assert _asked_to_stop(world, running)
    events = [event for event in world.events(running.job_id) if event.type is EventType.JOB_PROGRESS]
    assert "saved" not in events[-1].data
    assert world.calls.renew(running.stage_id, Renew(fence=running.fence)).stop is False, "as an older worker renews"


def test_a_team_of_more_weight_keeps_the_worker_longer(world: World) -> None:
    world.between(alpha=TeamSettings(weight=10.0))
    rival = _probing(world, "beta", seed=1)
    world.clock.advance(SLICE / 2)
    running = _probing(world, "alpha")
    world.complete(rival)
    world.clock.advance(SLICE)
    assert not _asked_to_stop(world, running), "a tenth of its time is less than the other team's"
    world.clock.advance(SLICE * 10)
    assert _asked_to_stop(world, running)


def test_a_stage_gives_way_to_another_kind_of_work_that_needs_the_same_device(world: World) -> None:
    job = world.create(Strategy.VAN_TUNING, team="beta")
    for _ in range(20):
        ready = [s for s in world.stages(job).values() if s.status == "ready" and s.name != "tune:van-tuning"]
        if not ready:
            break
        world.complete(world.claim(job, ready[0].name))
    assert world.stage(job, "tune:van-tuning").status == "ready"
    alpha = world.create(Strategy.CRAFT, team="alpha", seed=9)
    world.do(alpha, "ingest")
    stage = world.stage(alpha, "probe:initial")
    claimed = world.calls.claim(stage.id, Claim(owner="w", service=stage.queue, device="this machine"))
    assert claimed is not None
    world.clock.advance(SLICE + 1)
    assert _asked_to_stop(world, claimed)


def test_used_up_gpu_seconds_stop_a_stage_in_its_middle(world: World) -> None:
    world.between(alpha=TeamSettings(gpu_seconds_per_day=100.0))
    running = _probing(world, "alpha")
    world.clock.advance(99)
    assert not _asked_to_stop(world, running)
    world.clock.advance(2)
    assert not _asked_to_stop(world, running, saved=False), "it would lose all it did, each day"
    assert _asked_to_stop(world, running)
    world.release(running)
    assert world.try_claim(world.stage(running.job_id, "probe:initial")) is None
    world.clock.advance(24 * 3600)
    assert world.try_claim(world.stage(running.job_id, "probe:initial")) is not None


def test_a_job_that_used_all_it_may_fails_with_words(world: World) -> None:
    world.between(alpha=TeamSettings(gpu_seconds_per_job=100.0))
    running = _probing(world, "alpha")
    world.clock.advance(60)
    world.release(running)
    running = world.claim(running.job_id, "probe:initial")
    world.clock.advance(41)
    assert _asked_to_stop(world, running)
    job = world.job(running.job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "quota_exceeded"
    assert job.error["message"] == "The job has used 101 GPU seconds; a job of team alpha may use 100."
    with pytest.raises(LeaseLost):
        world.release(running)


def test_a_team_gets_no_more_unfinished_jobs_than_it_may_have(world: World) -> None:
    world.between(alpha=TeamSettings(max_unfinished_jobs=2))
    jobs = [world.create(Strategy.CRAFT, team="alpha", seed=seed) for seed in (1, 2)]
    with pytest.raises(QuotaExceeded, match="Team alpha has 2 unfinished jobs"):
        world.create(Strategy.CRAFT, team="alpha", seed=3)
    world.create(Strategy.CRAFT, team="beta", seed=3)
    world.control.cancel(jobs[0])
    world.create(Strategy.CRAFT, team="alpha", seed=3)


def test_a_batch_gets_only_the_places_that_are_left(world: World) -> None:
    world.between(alpha=TeamSettings(max_unfinished_jobs=2))
    new = [NewJob(job, plan(job), {}, origin=Origin("alpha")) for job in map(_job, range(4))]
    outcomes = world.control.create_jobs(new)
    assert [type(each) for each in outcomes] == [CreatedJob, CreatedJob, QuotaExceeded, QuotaExceeded]
