"""Real workers over a store whose files break: the job is done all the same, or says in words what is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.infra.storage.damage import flip_a_byte
from tests.pipeline.worker_rig import WorkerRig, worker_rig

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.device import no_device_lock
from craft.infra.worker.runner import StageRunner
from craft_gateway.store.tables import Stage

MOST_RUNS = 200


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[WorkerRig]:
    with worker_rig(tmp_path, deed="write_kind") as rig:
        yield rig


def runner(rig: WorkerRig, service: Service) -> StageRunner:
    """A worker of a service, with a view of the store of its own."""
    return StageRunner(
        service=service,
        owner=f"host-1-{service}",
        coordinator=rig.client,
        store=FolderStore(rig.root),
        child=rig.child,
        settings=WorkerSettings(),
        device_lock=no_device_lock,
    )


def run_whole_job(rig: WorkerRig, job_id: str, after_first: dict[str, bool]) -> dict[str, int]:
    """Run ready stages until the job ends; break the artifact of a stage that `after_first` names when it first ends.

    Returns how often each stage ran.
    """
    workers = {service: runner(rig, service) for service in Service}
    runs: dict[str, int] = {}
    for _ in range(MOST_RUNS):
        if rig.job(job_id).status.terminal:
            return runs
        stage = next(stage for stage in rig.stages(job_id) if stage.status is StageStatus.READY)
        workers[stage.queue].run(stage.id)
        ended = next(each for each in rig.stages(job_id) if each.name == stage.name)
        if ended.status is StageStatus.SUCCEEDED:
            runs[stage.name] = runs.get(stage.name, 0) + 1
            if after_first.pop(stage.name, False):
                flip_a_byte(folder_of(rig, ended), "text")
    raise AssertionError("the job does not end")


def folder_of(rig: WorkerRig, stage: Stage) -> Path:
    assert stage.artifact is not None
    return rig.store.open(stage.artifact)


def test_a_job_succeeds_although_each_of_its_artifacts_breaks_once(rig: WorkerRig) -> None:
    job_id = rig.create()
    names = {stage.name: bool(needed(rig, job_id, stage)) for stage in rig.stages(job_id)}
    runs = run_whole_job(rig, job_id, dict(names))
    assert rig.job(job_id).status is JobStatus.SUCCEEDED
    assert {name for name, count in runs.items() if count == 2} == {name for name, read in names.items() if read}
    for stage in rig.stages(job_id):
        if names[stage.name]:
            assert folder_of(rig, stage).is_dir()


def needed(rig: WorkerRig, job_id: str, stage: Stage) -> list[str]:
    """The stages that read what this one makes."""
    return [
        other.name
        for other in rig.stages(job_id)
        if any(source.get("stage") == stage.name for source in other.inputs.values())
    ]


def test_a_damaged_dataset_fails_the_job_in_words_and_uploading_it_again_lets_the_next_one_succeed(
    rig: WorkerRig,
) -> None:
    job_id = rig.create()
    [dataset] = (rig.root / "artifacts").iterdir()
    flip_a_byte(dataset, "text")
    run_whole_job(rig, job_id, {})
    job = rig.job(job_id)
    assert (job.status, (job.error or {})["code"]) == (JobStatus.FAILED, "artifact_damaged")
    assert "Upload the same rows again" in (job.error or {})["hint"]
    # `create` publishes the same dataset again.
    again = rig.create()
    run_whole_job(rig, again, {})
    assert rig.job(again).status is JobStatus.SUCCEEDED
