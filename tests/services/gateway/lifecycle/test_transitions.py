"""Jobs and stages change state as the design says, and only so."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from tests.services.gateway.rigs.world import SETTINGS, World, manifest_of, ref, resolved, sha

from craft.contracts.events import EventType, StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.claims import Claim, Complete, Renew, StageProgress
from craft.contracts.stages.kinds import Service, StageKind
from craft.core.strategies import Strategy
from craft.errors import (
    Conflict,
    GpuOutOfMemory,
    IdempotencyConflict,
    Internal,
    LeaseLost,
    NotFound,
    TooFewKnown,
    WorkerLost,
)
from craft_gateway.lifecycle.creation import Idempotency
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.plan.stages import plan
from craft_gateway.store.tables import Artifact, Stage, StageLog


def progress(done: int, total: int = 100) -> StageProgress:
    return StageProgress(done=done, total=total, metrics={"loss": 0.5})


def test_a_new_job_is_queued_with_its_first_stage_ready_and_one_hint(world: World) -> None:
    job_id = world.create()
    job = world.job(job_id)
    assert (job.status, job.percent, job.started_at) == (JobStatus.QUEUED, 0.0, None)
    ready = [name for name, stage in world.stages(job_id).items() if stage.status is StageStatus.READY]
    assert ready == ["ingest"]
    assert [(row.stage_id, row.queue) for row in world.outbox()] == [
        (world.stage(job_id, "ingest").id, Service.DATASETS)
    ]
    assert world.event_types(job_id) == [EventType.JOB_CREATED, EventType.JOB_QUEUED]


def test_a_claim_starts_the_job_and_carries_what_the_worker_needs(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    assert (claimed.attempt, claimed.fence, claimed.lease_seconds) == (1, 1, 90.0)
    assert claimed.inputs == {"dataset": ref("dataset")}
    assert claimed.parameters.kind is StageKind.INGEST
    assert world.job(job_id).status is JobStatus.RUNNING
    assert world.event_types(job_id)[2:] == [EventType.JOB_STARTED, EventType.STAGE_STARTED]


def test_a_second_claim_of_the_same_stage_gets_nothing(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    assert world.try_claim(world.stage(job_id, "ingest"), "worker-2") is None


def test_of_many_claims_at_once_exactly_one_wins(world: World) -> None:
    job_id = world.create()
    stage = world.stage(job_id, "ingest")
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: world.try_claim(stage, f"worker-{n}"), range(8)))
    assert sum(claimed is not None for claimed in claims) == 1
    assert world.stage(job_id, "ingest").fence == 1


def test_another_services_worker_gets_nothing(world: World) -> None:
    stage = world.stage(world.create(), "ingest")
    assert world.calls.claim(stage.id, Claim(owner="w", service=Service.TRAINING)) is None


def test_an_unknown_stage_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.calls.claim("stg_forged", Claim(owner="w", service=Service.DATASETS))


def test_the_job_of_higher_priority_gets_the_turn(world: World) -> None:
    ordinary = world.create(seed=1)
    urgent = world.create(seed=2, priority=90)
    claimed = world.try_claim(world.stage(ordinary, "ingest"))
    assert claimed is not None
    assert claimed.job_id == urgent
    # The urgent stage's own hint is now the ordinary one's turn.
    later = world.try_claim(world.stage(urgent, "ingest"))
    assert later is not None
    assert later.job_id == ordinary


def test_a_completed_stage_makes_the_next_ready_with_a_hint(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    stages = world.stages(job_id)
    assert stages["ingest"].status is StageStatus.SUCCEEDED
    assert stages["ingest"].artifact is not None
    ready = {name for name, stage in stages.items() if stage.status is StageStatus.READY}
    assert ready == {"probe:initial", "answer:basic", "answer:refuse"}
    assert {row.stage_id for row in world.outbox()} == {stages[name].id for name in ready | {"ingest"}}


def test_a_whole_job_succeeds_once_with_events_without_gaps(world: World) -> None:
    job_id = world.create(*Strategy)
    world.do_all(job_id)
    job = world.job(job_id)
    assert (job.status, job.percent, job.error) == (JobStatus.SUCCEEDED, 100.0, None)
    events = world.events(job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events if event.type.terminal] == [EventType.JOB_SUCCEEDED]
    assert events[-1].type is EventType.JOB_SUCCEEDED
    percents = [event.data["percent"] for event in events if "percent" in event.data]
    assert all(before <= after for before, after in pairwise(percents))


def test_saying_complete_twice_is_the_same_as_once(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    manifest = world.complete(claimed)
    before = world.event_types(job_id)
    world.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))
    assert world.event_types(job_id) == before


def test_an_artifact_that_is_not_in_the_store_is_not_adopted(world: World) -> None:
    claimed = world.claim(world.create(), "ingest")
    with pytest.raises(Conflict):
        world.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest_of(claimed)))
    assert world.stage(claimed.job_id, "ingest").status is StageStatus.RUNNING


def test_an_artifact_of_another_key_is_not_adopted(world: World) -> None:
    claimed = world.claim(world.create(), "ingest")
    manifest = manifest_of(claimed).model_copy(update={"key": "0" * 64})
    world.store.publish(manifest.ref)
    with pytest.raises(Conflict):
        world.calls.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))


def test_a_zombies_old_fence_changes_nothing(world: World) -> None:
    job_id = world.create()
    zombie = world.claim(job_id, "ingest")
    world.clock.advance(91)
    assert world.maintenance.reap() == 1
    current = world.claim(job_id, "ingest", "worker-2")
    assert current.fence > zombie.fence
    before, events = world.stage(job_id, "ingest").model_dump(), world.event_types(job_id)
    with pytest.raises(LeaseLost):
        world.complete(zombie)
    with pytest.raises(LeaseLost):
        world.fail(zombie, Internal("late"))
    with pytest.raises(LeaseLost):
        world.release(zombie)
    with pytest.raises(LeaseLost):
        world.calls.renew(zombie.stage_id, Renew(fence=zombie.fence, progress=progress(9)))
    assert world.stage(job_id, "ingest").model_dump() == before
    assert world.event_types(job_id) == events


def test_a_zombie_between_reaping_and_the_next_claim_changes_nothing(world: World) -> None:
    job_id = world.create()
    zombie = world.claim(job_id, "ingest")
    world.clock.advance(91)
    world.maintenance.reap()
    with pytest.raises(LeaseLost):
        world.complete(zombie)
    with world.database.read() as session:
        assert session.exec(select(Artifact)).all() == []
    assert world.stage(job_id, "ingest").status is StageStatus.READY


def test_a_renewed_lease_is_not_reaped(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    for _ in range(10):
        world.clock.advance(60)
        assert world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence)).stop is False
        assert world.maintenance.reap() == 0


def test_progress_is_shown_and_told_at_most_once_a_second(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    claimed = world.claim(job_id, "probe:initial")
    for done in range(1, 11):
        world.clock.advance(0.25)
        world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=progress(done)))
    told = [event.data for event in world.events(job_id) if event.type is EventType.JOB_PROGRESS]
    assert [data["done"] for data in told] == [1, 5, 9]
    assert told[-1]["metrics"] == {"loss": 0.5}
    assert told[0]["percent"] < told[-1]["percent"]
    assert world.stage(job_id, "probe:initial").progress == progress(10).model_dump(mode="json", exclude={"saved"})
    assert world.job(job_id).status_reason == "probe:initial, 10 of 100"


def test_log_lines_are_kept_in_order_with_their_stage(world: World) -> None:
    claimed = world.claim(world.create(), "ingest")
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, log_lines=["one", "two\0", "x" * 5000]))
    with world.database.read() as session:
        lines = session.exec(select(StageLog).where(StageLog.stage_id == claimed.stage_id)).all()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert [line.line for line in lines][:2] == ["one", "two\N{REPLACEMENT CHARACTER}"]
    assert len(lines[2].line) == 2000


def test_a_retryable_failure_pauses_then_the_stage_runs_again(world: World) -> None:
    job_id = world.create()
    world.fail(world.claim(job_id, "ingest"), GpuOutOfMemory("no memory"))
    stage = world.stage(job_id, "ingest")
    assert (stage.status, stage.attempt) == (StageStatus.READY, 2)
    assert world.try_claim(stage) is None
    assert world.relay.send_due() == 1  # the first hint only; the second is not due
    world.clock.advance(21)
    assert world.relay.send_due() == 1
    assert world.claim(job_id, "ingest").attempt == 2
    retried = world.events(job_id)[-2]
    assert (retried.type, retried.data["retry_seconds"]) == (EventType.STAGE_RETRIED, 5.0)
    assert retried.data["error"]["code"] == "gpu_oom"


def test_a_users_fault_fails_the_job_at_once_and_skips_the_rest(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    world.fail(world.claim(job_id, "probe:initial"), TooFewKnown("It knows nothing.", hint="Lower tau.", param="tau"))
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert {k: job.error[k] for k in ("code", "fault", "stage", "attempt", "hint", "param")} == {
        "code": "too_few_known",
        "fault": "user",
        "stage": "probe:initial",
        "attempt": 1,
        "hint": "Lower tau.",
        "param": "tau",
    }
    statuses = {stage.status for name, stage in world.stages(job_id).items() if name not in {"ingest", "probe:initial"}}
    assert statuses == {StageStatus.SKIPPED}
    assert world.event_types(job_id)[-2:] == [EventType.STAGE_FAILED, EventType.JOB_FAILED]


def test_a_stage_whose_worker_dies_each_time_fails_the_job_after_three_attempts(world: World) -> None:
    job_id = world.create()
    for attempt in (1, 2, 3):
        claimed = world.claim(job_id, "ingest")
        assert claimed.attempt == attempt
        world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, log_lines=[f"attempt {attempt}"]))
        world.clock.advance(91)
        assert world.maintenance.reap() == 1
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["attempt"]) == ("worker_lost", 3)
    assert job.error["last_log_lines"] == ["attempt 1", "attempt 2", "attempt 3"]


def test_giving_a_stage_back_costs_no_attempt_and_hints_at_once(world: World) -> None:
    job_id = world.create()
    for fence in range(1, 6):
        claimed = world.claim(job_id, "ingest")
        assert (claimed.attempt, claimed.fence) == (1, fence)
        world.release(claimed)
    assert len(world.outbox()) == 6


def test_a_stage_past_its_deadline_is_stopped_and_counts_as_a_timeout(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    for _ in range(60):
        world.clock.advance(60)
        renewed = world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    assert renewed.stop is True
    world.release(claimed)
    stage = world.stage(job_id, "ingest")
    assert (stage.status, stage.attempt) == (StageStatus.READY, 2)
    assert stage.error is not None
    assert stage.error["code"] == "timeout"


def test_a_worker_that_renews_past_its_deadline_is_reaped(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    for _ in range(61):
        world.clock.advance(60)
        world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    world.clock.advance(60)
    assert world.maintenance.reap() == 1
    error = world.stage(job_id, "ingest").error
    assert error is not None
    assert error["code"] == "timeout"


def test_a_job_that_nobody_works_on_is_cancelled_at_once(world: World) -> None:
    job_id = world.create()
    assert world.control.cancel(job_id) is JobStatus.CANCELLED
    assert {stage.status for stage in world.stages(job_id).values()} == {StageStatus.CANCELLED}
    assert world.event_types(job_id)[-2:] == [EventType.JOB_CANCELLING, EventType.JOB_CANCELLED]


def test_cancelling_stops_the_running_stage_and_then_ends_the_job(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    assert world.control.cancel(job_id) is JobStatus.CANCELLING
    assert world.control.cancel(job_id) is JobStatus.CANCELLING
    assert world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence, progress=progress(5))).stop is True
    world.release(claimed)
    assert world.job(job_id).status is JobStatus.CANCELLED
    assert world.stage(job_id, "ingest").status is StageStatus.CANCELLED


def test_a_stage_that_completes_while_cancelling_keeps_its_artifact_but_nothing_follows(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.control.cancel(job_id)
    world.complete(claimed)
    assert world.job(job_id).status is JobStatus.CANCELLED
    assert world.stage(job_id, "ingest").status is StageStatus.SUCCEEDED
    assert world.stage(job_id, "probe:initial").status is StageStatus.CANCELLED


def test_a_cancelled_job_whose_worker_died_ends_when_the_lease_runs_out(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.control.cancel(job_id)
    world.clock.advance(91)
    world.maintenance.reap()
    assert world.job(job_id).status is JobStatus.CANCELLED


def test_cancelling_an_ended_job_changes_nothing(world: World) -> None:
    job_id = world.create()
    world.do_all(job_id)
    before = world.event_types(job_id)
    assert world.control.cancel(job_id) is JobStatus.SUCCEEDED
    assert world.event_types(job_id) == before


def test_cancelling_an_unknown_job_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.control.cancel("cjob_none")


def test_what_still_runs_when_its_job_fails_is_stopped_without_further_events(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    first, second = world.claim(job_id, "probe:initial"), world.claim(job_id, "answer:basic", "worker-2")
    world.fail(first, Internal("a defect"))
    assert world.job(job_id).status is JobStatus.FAILED
    assert world.calls.renew(second.stage_id, Renew(fence=second.fence, progress=progress(1))).stop is True
    world.release(second)
    assert world.stage(job_id, "answer:basic").status is StageStatus.SKIPPED
    assert world.event_types(job_id)[-1] is EventType.JOB_FAILED


def test_what_completes_after_its_job_failed_still_leaves_its_artifact(world: World) -> None:
    job_id = world.create()
    world.do(job_id, "ingest")
    first, second = world.claim(job_id, "probe:initial"), world.claim(job_id, "answer:basic", "worker-2")
    world.fail(first, Internal("a defect"))
    world.complete(second)
    assert world.stage(job_id, "answer:basic").status is StageStatus.SUCCEEDED
    assert world.event_types(job_id)[-1] is EventType.JOB_FAILED


def test_a_terminal_status_is_written_once(world: World) -> None:
    job_id = world.create()
    world.control.cancel(job_id)
    with world.database.write() as session, pytest.raises(Internal):
        JobTransaction.open(session, world.clock, job_id).end(JobStatus.SUCCEEDED, reason="again")


def test_the_same_job_again_reuses_every_stage_and_queues_nothing(world: World) -> None:
    world.do_all(world.create(Strategy.CRAFT, Strategy.COR_RAIT))
    hints = len(world.outbox())
    again = world.create(Strategy.CRAFT, Strategy.COR_RAIT)
    assert world.job(again).status is JobStatus.SUCCEEDED
    assert all(stage.reused for stage in world.stages(again).values())
    assert len(world.outbox()) == hints
    types = world.event_types(again)
    assert set(types[2:-2]) == {EventType.STAGE_REUSED}
    assert types[-2:] == [EventType.JOB_STARTED, EventType.JOB_SUCCEEDED]


def test_another_strategy_repeats_no_probe(world: World) -> None:
    world.do_all(world.create(Strategy.CRAFT))
    other = world.create(Strategy.VAN_TUNING)
    fresh = [name for name, stage in world.stages(other).items() if not stage.reused]
    assert fresh == [f"{kind}:van-tuning" for kind in ("tuning_set", "tune", "answer", "evaluate", "package")] + [
        "report"
    ]


def test_an_artifact_that_the_store_has_lost_is_made_again(world: World) -> None:
    first = world.create()
    world.do_all(first)
    artifact = world.stage(first, "probe:initial").artifact
    assert artifact is not None
    world.store.lose(artifact)
    again = world.create()
    assert world.stage(again, "ingest").reused
    assert world.stage(again, "probe:initial").status is StageStatus.READY
    manifest = world.complete(world.claim(again, "probe:initial"), content="other bytes")
    with world.database.read() as session:
        row = session.exec(select(Artifact).where(Artifact.key == manifest.key)).one()
    assert (row.digest, row.other_digests) == (manifest.digest, [artifact.digest])


def test_of_two_attempts_with_other_bytes_the_first_committed_counts(world: World) -> None:
    first = world.create()
    world.do(first, "ingest")
    made = world.stage(first, "ingest").artifact
    assert made is not None
    world.store.lose(made)
    second = world.create()
    claimed = world.claim(second, "ingest")
    world.store.publish(made)  # the store's folder is back before the second attempt reports
    other = world.complete(claimed, content="other bytes")
    assert world.stage(second, "ingest").artifact == made
    with world.database.read() as session:
        row = session.exec(select(Artifact).where(Artifact.key == made.key)).one()
    assert (row.digest, row.other_digests) == (made.digest, [other.digest])


def test_two_jobs_do_a_shared_stage_once(world: World) -> None:
    first, second = world.create(Strategy.CRAFT), world.create(Strategy.COR_RAIT)
    claimed = world.claim(first, "ingest")
    assert world.try_claim(world.stage(second, "ingest"), "worker-2") is None
    world.complete(claimed)
    stage = world.stage(second, "ingest")
    assert (stage.status, stage.reused, stage.artifact) == (
        StageStatus.SUCCEEDED,
        True,
        world.stage(first, "ingest").artifact,
    )
    assert world.stage(second, "probe:initial").status is StageStatus.READY


def test_a_stage_that_waited_for_a_twin_is_hinted_when_the_twin_is_lost(world: World) -> None:
    first, second = world.create(Strategy.CRAFT), world.create(Strategy.COR_RAIT)
    claimed = world.claim(first, "ingest")
    hints = len(world.outbox())
    world.clock.advance(1)
    world.fail(claimed, Internal("a defect"))
    assert [row.stage_id for row in world.outbox()[hints:]] == [world.stage(second, "ingest").id]
    assert world.claim(second, "ingest", "worker-2").fence == 1


def test_the_database_itself_refuses_two_running_stages_of_one_key(world: World) -> None:
    first, second = world.create(Strategy.CRAFT), world.create(Strategy.COR_RAIT)
    world.claim(first, "ingest")
    with world.database.write() as session:
        unit = JobTransaction.open(session, world.clock, second)
        with pytest.raises(IntegrityError):
            unit.move(unit.stages[0], StageStatus.RUNNING)


def test_an_idempotency_key_makes_one_job(world: World) -> None:
    same = Idempotency(key="k", body_hash="a" * 64)
    first = world.control.create_job(resolved(), idempotency=same)
    second = world.control.create_job(resolved(), idempotency=same)
    assert (first.repeated, second.repeated) == (False, True)
    assert first.id == second.id
    with pytest.raises(IdempotencyConflict):
        world.control.create_job(resolved(), idempotency=Idempotency(key="k", body_hash="b" * 64))


def test_one_idempotency_key_at_once_makes_one_job(world: World) -> None:
    same = Idempotency(key="k", body_hash="a" * 64)
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: world.control.create_job(resolved(), idempotency=same), range(6)))
    assert len({created.id for created in made}) == 1
    assert sum(not created.repeated for created in made) == 1


def test_the_sweep_hints_a_stage_whose_hint_was_lost(world: World) -> None:
    job_id = world.create()
    world.relay.send_due()
    assert world.maintenance.redispatch().dispatched == 0
    world.clock.advance(SETTINGS.resend_seconds + 1)
    assert world.maintenance.redispatch().dispatched == 1
    assert world.maintenance.redispatch().dispatched == 0
    world.relay.send_due()
    assert [stage_id for _, stage_id in world.broker.sent] == [world.stage(job_id, "ingest").id] * 2


def test_the_sweep_adds_no_hint_to_one_that_still_waits_for_the_broker(world: World) -> None:
    world.create()
    world.clock.advance(SETTINGS.resend_seconds + 1)
    assert world.maintenance.redispatch().dispatched == 0
    assert len(world.outbox()) == 1


def test_the_sweep_settles_a_twin_that_a_crash_left_behind(world: World) -> None:
    first, second = world.create(Strategy.CRAFT), world.create(Strategy.COR_RAIT)
    claimed = world.claim(first, "ingest")
    manifest = manifest_of(claimed)
    # The first job's commit happened, what follows it did not: the other job's artifact row is all there is.
    world.store.publish(manifest.ref)
    with world.database.write() as session:
        session.add(Artifact(key=manifest.key, digest=manifest.digest, manifest={}, created_at=world.clock.now))
    assert world.maintenance.redispatch().reused == 1
    assert world.stage(second, "ingest").reused


def test_sent_hints_are_forgotten_after_an_hour(world: World) -> None:
    job_id = world.create()
    world.relay.send_due()
    world.claim(job_id, "ingest")
    world.clock.advance(3601)
    world.maintenance.redispatch()
    assert world.outbox() == []


def test_a_lost_worker_without_a_lease_time_is_reaped_too(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    with world.database.write() as session:
        stage = JobTransaction.open(session, world.clock, job_id).stages[0]
        stage.lease_expires_at = None
    world.clock.advance(91)
    assert world.maintenance.reap() == 1


def test_a_worker_lost_error_reported_by_its_parent_is_tried_again(world: World) -> None:
    job_id = world.create()
    world.fail(world.claim(job_id, "ingest"), WorkerLost("killed by signal 9"))
    assert world.stage(job_id, "ingest").attempt == 2


def test_a_stage_renewed_after_the_reaper_saw_it_stays_with_its_worker(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.clock.advance(91)
    seen = world.stage(job_id, "ingest")
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    assert world.maintenance.reclaim(seen) is False
    assert world.stage(job_id, "ingest").status is StageStatus.RUNNING


def test_a_stage_completed_after_the_reaper_saw_it_stays_completed(world: World) -> None:
    job_id = world.create()
    claimed = world.claim(job_id, "ingest")
    world.clock.advance(91)
    seen = world.stage(job_id, "ingest")
    world.complete(claimed)
    assert world.maintenance.reclaim(seen) is False
    assert world.stage(job_id, "ingest").status is StageStatus.SUCCEEDED


def test_a_stage_claimed_anew_after_the_reaper_saw_it_stays_with_its_new_worker(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    world.clock.advance(91)
    seen = world.stage(job_id, "ingest")
    world.maintenance.reap()
    world.claim(job_id, "ingest", "worker-2")
    world.clock.advance(91)  # expired again, but that is another attempt's lease
    assert world.maintenance.reclaim(seen) is False
    assert world.stage(job_id, "ingest").owner == "worker-2"


def test_a_row_that_changed_since_it_was_read_is_not_overwritten(world: World) -> None:
    job_id = world.create()
    world.claim(job_id, "ingest")
    with world.database.write() as session:
        unit = JobTransaction.open(session, world.clock, job_id)
        stage = unit.stages[0]
        session.connection().execute(update(Stage).where(col(Stage.id) == stage.id).values(fence=7))
        with pytest.raises(LeaseLost):
            unit.move(stage, StageStatus.SUCCEEDED)
    assert world.stage(job_id, "ingest").status is StageStatus.RUNNING


def test_a_claim_gets_the_stage_whose_artifact_is_swept_while_it_is_looked_for(world: World) -> None:
    stage = world.stage(world.create(), "ingest")
    made = ArtifactRef(key=stage.key or "", digest=sha("made"))
    with world.database.write() as session:
        session.add(Artifact(key=made.key, digest=made.digest, manifest={}, created_at=world.clock.now))

    def swept(artifact: ArtifactRef) -> bool:
        with world.database.write() as session:
            session.connection().execute(delete(Artifact).where(col(Artifact.key) == artifact.key))
        return True

    calls = WorkerCalls(world.database, exists=swept, settings=SETTINGS)
    assert not calls.reuse_if_computed(stage)
    with world.database.write() as session:
        session.add(Artifact(key=made.key, digest=made.digest, manifest={}, created_at=world.clock.now))
    assert calls.claim(stage.id, Claim(owner="worker", service=stage.queue)) is not None


@pytest.mark.parametrize("swept", [False, True])
def test_a_new_job_takes_over_only_what_is_there_still_when_it_is_stored(world: World, swept: bool) -> None:
    first = world.create()
    world.do(first, "ingest")
    stages = plan(resolved())
    reused = world.control.reusable(stages)
    assert set(reused) == {"ingest"}
    if swept:
        with world.database.write() as session:
            session.connection().execute(delete(Artifact).where(col(Artifact.key) == reused["ingest"].key))
    job_id = world.control.create_job(resolved(), reused=reused).id
    statuses = {name: stage.status for name, stage in world.stages(job_id).items()}
    assert statuses["ingest"] is (StageStatus.READY if swept else StageStatus.SUCCEEDED)
    assert statuses["probe:initial"] is (StageStatus.PENDING if swept else StageStatus.READY)
    hinted = {row.stage_id for row in world.outbox()}
    assert world.stage(job_id, "ingest" if swept else "probe:initial").id in hinted


def test_one_stage_that_cannot_be_taken_back_keeps_no_other_from_it(world: World) -> None:
    bad, good = (world.create(seed=seed) for seed in (1, 2))
    for job_id in (bad, good):
        world.claim(job_id, "ingest")
        world.clock.advance(1)
    with world.database.write() as session:
        row = session.exec(select(Stage).where(Stage.job_id == bad, Stage.name == "ingest")).one()
        # What a newer version may have left behind.
        row.progress, row.lost_attempts = {"done": 1, "total": 2, "tomorrow": 3}, 2
        session.add(row)
    world.clock.advance(91)
    assert world.maintenance.reap() == 1
    assert world.stage(good, "ingest").status is StageStatus.READY
