"""A damaged artifact is computed again, and what needs it waits; the same facts hold on PostgreSQL."""

import pytest
from sqlmodel import col, select
from tests.services.gateway.rigs.world import World, sha

from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import StageError
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest, stage_key
from craft.contracts.stages.claims import ClaimedStage
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import ArtifactDamaged
from craft_gateway.lifecycle.damage import MAX_REMAKES
from craft_gateway.store.tables import Dataset, Outbox


def damaged(world: World, claimed: ClaimedStage) -> None:
    """Report as a worker does that found an input damaged."""
    world.fail(claimed, ArtifactDamaged("An input of the stage is damaged."))


def begun(world: World) -> tuple[str, Manifest]:
    """A job whose ingest is done, with its artifact."""
    world.store.publish(ArtifactRef(key=sha("key of dataset"), digest=sha("bytes of dataset")))
    job_id = world.create(Strategy.VAN_TUNING)
    return job_id, world.complete(world.claim(job_id, "ingest"))


def ready(world: World, job_id: str) -> set[str]:
    return {name for name, stage in world.stages(job_id).items() if stage.status is StageStatus.READY}


def test_the_stage_that_made_a_damaged_input_runs_again_and_its_dependants_wait(world: World) -> None:
    job_id, made = begun(world)
    before = ready(world, job_id)
    reader = world.claim(job_id, min(before))
    world.store.lose(made.ref)
    damaged(world, reader)
    assert ready(world, job_id) == {"ingest"}
    ingest = world.stage(job_id, "ingest")
    assert (ingest.artifact, ingest.remakes, ingest.attempt) == (None, 1, 1)
    assert world.stage(job_id, reader.name).error is not None
    assert EventType.STAGE_RETRIED in world.event_types(job_id)
    assert "ingest" in (world.job(job_id).status_reason or "")
    again = world.complete(world.claim(job_id, "ingest"))
    assert again.ref == made.ref
    assert ready(world, job_id) == before
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_a_message_is_sent_for_the_stage_that_runs_again(world: World) -> None:
    job_id, made = begun(world)
    reader = world.claim(job_id, min(ready(world, job_id)))
    ingest = world.stage(job_id, "ingest").id
    before = sum(row.stage_id == ingest for row in world.outbox())
    world.store.lose(made.ref)
    damaged(world, reader)
    with world.database.read() as session:
        sent = session.exec(select(Outbox).where(col(Outbox.stage_id) == ingest)).all()
    assert len(sent) == before + 1


def test_an_artifact_of_another_job_that_is_damaged_is_computed_by_the_job_that_needs_it(world: World) -> None:
    first, made = begun(world)
    world.do_all(first)
    second = world.create(Strategy.COR_RAIT)
    assert world.stage(second, "ingest").reused
    names = ready(world, second)
    reader = world.claim(second, min(names))
    world.store.lose(made.ref)
    damaged(world, reader)
    assert "ingest" in ready(world, second)
    world.do_all(second)
    assert world.job(second).status is JobStatus.SUCCEEDED


def test_a_new_job_does_not_reuse_what_is_damaged(world: World) -> None:
    job_id, made = begun(world)
    world.do_all(job_id)
    world.store.lose(made.ref)
    again = world.create(Strategy.VAN_TUNING)
    assert world.stage(again, "ingest").status is StageStatus.READY
    world.do_all(again)
    assert world.job(again).status is JobStatus.SUCCEEDED


def test_an_input_that_is_whole_again_by_now_lets_the_stage_try_again(world: World) -> None:
    job_id, _ = begun(world)
    reader = world.claim(job_id, min(ready(world, job_id)))
    damaged(world, reader)
    stage = world.stage(job_id, reader.name)
    assert (stage.status, stage.attempt) == (StageStatus.READY, 2)
    assert world.stage(job_id, "ingest").status is StageStatus.SUCCEEDED


def test_an_output_that_is_damaged_again_and_again_ends_the_job_in_words(world: World) -> None:
    job_id, made = begun(world)
    reader = min(ready(world, job_id))
    for _ in range(MAX_REMAKES):
        claimed = world.claim(job_id, reader)
        world.store.lose(made.ref)
        damaged(world, claimed)
        world.do(job_id, "ingest")
    claimed = world.claim(job_id, reader)
    world.store.lose(made.ref)
    damaged(world, claimed)
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    error = StageError.model_validate({k: v for k, v in (job.error or {}).items() if k not in {"stage", "attempt"}})
    assert error.code == "artifact_damaged"
    assert f"The stored output of ingest was damaged {MAX_REMAKES + 1} times" in error.message
    assert "disk" in (error.hint or "")


@pytest.mark.parametrize("name", ["trivia", None])
def test_a_damaged_dataset_fails_the_job_and_says_to_upload_it_again(world: World, name: str | None) -> None:
    key, digest = sha("key of dataset"), sha("bytes of dataset")
    with world.database.write() as session:
        session.add(
            Dataset(
                id=f"dset_{'0' * 26}",
                name=name,
                task=Task.OPEN_ENDED,
                team="default",
                rows=1,
                key=key,
                digest=digest,
                content_hash=key,
                created_at=world.clock.now,
            )
        )
    job_id = world.create(Strategy.VAN_TUNING)
    damaged(world, world.claim(job_id, "ingest"))
    job = world.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "artifact_damaged"
    assert f"dset_{'0' * 26}" in job.error["message"]
    assert (name or "") in job.error["message"]
    assert "Upload the same rows again" in job.error["hint"]
    assert {stage.status for stage in world.stages(job_id).values()} == {StageStatus.FAILED, StageStatus.SKIPPED}


def test_a_job_that_is_being_cancelled_makes_nothing_again(world: World) -> None:
    job_id, made = begun(world)
    reader = world.claim(job_id, min(ready(world, job_id)))
    world.control.cancel(job_id)
    world.store.lose(made.ref)
    damaged(world, reader)
    assert world.job(job_id).status is JobStatus.CANCELLED


def test_a_paused_job_makes_it_again_when_it_is_resumed(world: World) -> None:
    job_id, made = begun(world)
    reader = world.claim(job_id, min(ready(world, job_id)))
    world.control.pause(job_id)
    world.store.lose(made.ref)
    damaged(world, reader)
    assert world.job(job_id).status is JobStatus.PAUSED
    assert ready(world, job_id) == set()
    world.control.resume(job_id)
    assert ready(world, job_id) == {"ingest"}
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_two_stages_that_find_one_input_damaged_at_once_both_wait_until_it_is_made_again(world: World) -> None:
    job_id, made = begun(world)
    first, second = [world.claim(job_id, name) for name in sorted(ready(world, job_id))[:2]]
    world.store.lose(made.ref)
    damaged(world, first)
    damaged(world, second)
    assert ready(world, job_id) == {"ingest"}
    assert world.stage(job_id, second.name).status is StageStatus.PENDING
    assert world.stage(job_id, "ingest").remakes == 1
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_a_report_that_was_on_its_way_while_another_had_the_input_made_again_changes_nothing_more(
    world: World,
) -> None:
    job_id, made = begun(world)
    first, second = [world.claim(job_id, name) for name in sorted(ready(world, job_id))[:2]]
    world.store.lose(made.ref)
    asked = False

    def exists_while_the_other_reports(artifact: ArtifactRef) -> bool:
        nonlocal asked
        if artifact == made.ref and not asked:
            asked = True
            damaged(world, first)
        return world.store(artifact)

    world.connect(exists_while_the_other_reports)
    damaged(world, second)
    assert asked
    assert ready(world, job_id) == {"ingest"}
    assert world.stage(job_id, "ingest").remakes == 1
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_a_stage_that_is_given_back_while_its_input_is_made_again_waits_for_it(world: World) -> None:
    job_id, made = begun(world)
    first, second = [world.claim(job_id, name) for name in sorted(ready(world, job_id))[:2]]
    world.store.lose(made.ref)
    damaged(world, first)
    world.release(second)
    assert ready(world, job_id) == {"ingest"}
    world.complete(world.claim(job_id, "ingest"), content="other bytes")
    again = world.claim(job_id, second.name)
    assert again.key != second.key
    assert set(again.inputs) == set(second.inputs)
    world.complete(again)
    world.do_all(job_id)
    assert world.job(job_id).status is JobStatus.SUCCEEDED


def test_a_stage_that_is_given_back_after_its_input_was_made_again_has_the_key_of_the_new_input(world: World) -> None:
    job_id, made = begun(world)
    first, second = [world.claim(job_id, name) for name in sorted(ready(world, job_id))[:2]]
    world.store.lose(made.ref)
    damaged(world, first)
    other = world.complete(world.claim(job_id, "ingest"), content="other bytes")
    world.release(second)
    again = world.claim(job_id, second.name)
    assert other.ref in again.inputs.values()
    assert again.key == stage_key(again.parameters, again.inputs) != second.key
