"""Pausing, resuming and doing again; what is missing around a stage uses up no attempt; every claim is on record."""

import pytest
from tests.services.gateway.rigs.world import World, resolved

from craft.contracts.events import EventType, StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.claims import Renew
from craft.errors import Conflict, DeviceBusy, DiskFull, LeaseLost, WorkerLost
from craft_gateway.lifecycle.creation import Origin


def test_a_job_that_nobody_works_on_is_paused_at_once_and_nothing_of_it_is_claimed(world: World) -> None:
    job_id = world.create()
    assert world.control.pause(job_id) is JobStatus.PAUSED
    assert world.try_claim(world.stage(job_id, "ingest")) is None
    assert world.event_types(job_id)[-2:] == [EventType.JOB_PAUSING, EventType.JOB_PAUSED]


def test_pausing_stops_the_running_stage_and_then_the_job_is_paused(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    assert world.control.pause(job_id) is JobStatus.PAUSING
    assert world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence)).stop
    world.release(claimed)
    assert world.job(job_id).status is JobStatus.PAUSED
    assert world.stage(job_id, "ingest").status is StageStatus.PENDING


def test_the_sweep_hints_nothing_of_a_paused_job(world: World) -> None:
    job_id = world.create()
    world.control.pause(job_id)
    world.clock.advance(3600)
    assert world.maintenance.redispatch().dispatched == 0


def test_a_paused_job_takes_no_place_of_those_that_wait(world: World) -> None:
    for seed in range(30):
        world.control.pause(world.create(seed=seed, priority=100))
    last = world.create(seed=99)
    assert world.try_claim(world.stage(last, "ingest")) is not None


def test_a_resumed_job_goes_on_where_it_stopped(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    world.control.pause(job_id)
    hints = len(world.outbox())
    world.control.resume(job_id)
    ready = {name for name, stage in world.stages(job_id).items() if stage.status is StageStatus.READY}
    assert ready == {"probe:initial", "answer:basic", "answer:refuse"}
    assert len(world.outbox()) == hints + 3
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED
    assert world.event_types(job_id).count(EventType.JOB_STARTED) == 1
    assert len([attempt for attempt in world.attempts(job_id) if attempt.kind == "ingest"]) == 1


def test_a_job_resumed_while_it_still_pauses_runs_on(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.control.pause(job_id)
    assert world.control.resume(job_id) is JobStatus.RUNNING
    assert not world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence)).stop
    world.complete(claimed)
    world.do_all(job_id)


def test_a_stage_that_completes_while_its_job_pauses_is_done_and_nothing_follows_until_it_resumes(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.control.pause(job_id)
    world.complete(claimed)
    assert world.job(job_id).status is JobStatus.PAUSED
    assert world.stage(job_id, "ingest").status is StageStatus.SUCCEEDED
    assert all(stage.status is not StageStatus.READY for stage in world.stages(job_id).values())
    world.control.resume(job_id)
    world.do_all(job_id)


def test_a_job_whose_last_stage_completes_while_it_pauses_has_succeeded(world: World) -> None:
    job_id = world.create()
    while world.stage(job_id, "report").status is not StageStatus.READY:
        for stage in world.stages(job_id).values():
            if stage.status is StageStatus.READY and stage.name != "report":
                world.do(job_id, stage.name)
    claimed = world.claim(job_id, "report")
    world.control.pause(job_id)
    world.complete(claimed)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_a_worker_that_dies_while_its_job_pauses_leaves_it_paused(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.control.pause(job_id)
    world.clock.advance(91)
    world.maintenance.reap()
    assert world.job(job_id).status is JobStatus.PAUSED
    assert world.stage(job_id, "ingest").attempt == 2


def test_a_paused_job_can_be_cancelled(world: World) -> None:
    job_id = world.create()
    world.control.pause(job_id)
    assert world.control.cancel(job_id) is JobStatus.CANCELLED


def test_pausing_and_resuming_twice_is_the_same_as_once(world: World) -> None:
    job_id = world.create()
    world.control.pause(job_id)
    world.control.pause(job_id)
    world.control.resume(job_id)
    events = world.event_types(job_id)
    world.control.resume(job_id)
    assert world.event_types(job_id) == events


def test_an_ended_job_is_neither_paused_nor_resumed(world: World) -> None:
    job_id = world.create()
    world.control.cancel(job_id)
    with pytest.raises(Conflict, match="cancelled"):
        world.control.pause(job_id)
    with pytest.raises(Conflict, match="cancelled"):
        world.control.resume(job_id)


def test_a_zombie_of_a_paused_job_changes_nothing(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.control.pause(job_id)
    world.release(claimed)
    with pytest.raises(LeaseLost):
        world.complete(claimed)
    assert world.job(job_id).status is JobStatus.PAUSED


@pytest.mark.parametrize("error", [DiskFull("full"), DeviceBusy("busy")], ids=lambda error: error.code)
def test_a_stage_waits_for_its_surroundings_as_long_as_it_takes(world: World, error: DiskFull | DeviceBusy) -> None:
    job_id = world.create()
    pauses = []
    for _ in range(8):
        claimed = world.claim(job_id, "ingest")
        assert claimed.attempt == 1
        world.fail(claimed, error)
        pauses.append(world.events(job_id)[-1].data["retry_seconds"])
        world.clock.advance(301)
    assert pauses == sorted(pauses)
    assert max(pauses) == 300.0
    world.do_all(job_id)


def test_what_waited_for_its_surroundings_has_all_its_attempts_for_other_failures(world: World) -> None:
    job_id = world.create()
    for error in (DiskFull("full"), WorkerLost("died"), DiskFull("full"), WorkerLost("died")):
        world.fail(world.claim(job_id, "ingest"), error)
        world.clock.advance(301)
    assert world.claim(job_id, "ingest").attempt == 3


def test_a_full_store_hands_out_nothing_until_there_is_room(world: World) -> None:
    job_id = world.create()
    world.has_space = False
    assert world.try_claim(world.stage(job_id, "ingest")) is None
    world.has_space = True
    world.do_all(job_id)


def test_every_claim_is_on_record_with_its_end(world: World) -> None:
    job_id = world.create()
    world.clock.advance(7)
    claimed = world.claim(job_id, "ingest")
    world.clock.advance(5)
    world.release(claimed)
    world.fail(world.claim(job_id, "ingest"), WorkerLost("died"))
    world.clock.advance(60)
    world.complete(world.claim(job_id, "ingest", "worker-2"))
    found = world.attempts(job_id)
    assert [(attempt.number, attempt.fence, attempt.outcome) for attempt in found] == [
        (1, 1, AttemptOutcome.RELEASED),
        (1, 2, AttemptOutcome.FAILED),
        (2, 3, AttemptOutcome.SUCCEEDED),
    ]
    assert (found[0].waited_seconds, found[0].seconds, found[0].error) == (7.0, 5.0, None)
    assert (found[1].error or {})["code"] == "worker_lost"
    assert found[2].owner == "worker-2"


def test_what_its_jobs_end_stopped_is_on_record_as_stopped(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.control.cancel(job_id)
    world.release(claimed)
    assert [attempt.outcome for attempt in world.attempts(job_id)] == [AttemptOutcome.STOPPED]


def test_a_retry_uses_what_is_there_and_computes_what_was_named_again(world: World) -> None:
    first = world.create()
    world.do_all(first)
    again = frozenset({"evaluate:craft", "package:craft", "report"})
    second = world.control.create_job(resolved(), origin=Origin(retry_of=first, recompute=again)).id
    assert {name for name, stage in world.stages(second).items() if not stage.reused} == again
    world.maintenance.redispatch()
    claimed = world.claim(second, "evaluate:craft")
    made = world.complete(claimed, content="other bytes")
    assert world.stage(second, "evaluate:craft").artifact == made.ref
    world.do_all(second)
    assert world.job(second).retry_of == first
    third = world.create()
    assert world.stage(third, "evaluate:craft").artifact == made.ref
