"""The numbers of a job's view that depend on time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from craft.contracts.base import rfc3339
from craft.contracts.events import StageStatus
from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import BaseModelRef, DatasetRef, JobSpec, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import FACTS, StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.questions import Task
from craft_gateway.job_views.views import JobRows, job_view, stage_view
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store.tables import Job, Stage

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
REF = ArtifactRef(key="a" * 64, digest="b" * 64)
JOB_ID = "cjob_01jgywz3x4v5q6r7s8t9vawbxc"
RESOLVED = ResolvedJob(
    spec=JobSpec(base_model=BaseModelRef(id="m"), dataset=DatasetRef(id="dset_01jgywz3x4v5q6r7s8t9vawbxc")),
    model=ModelRef(id="m", revision="main", digest="c" * 64),
    engine=EngineRef(),
    embedder="e",
    dataset=REF,
)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def view(status: JobStatus, now: datetime, **changes: object) -> JobView:
    job = Job.model_validate(
        {
            "id": JOB_ID,
            "team": "default",
            "task": Task.OPEN_ENDED,
            "resolved": RESOLVED.model_dump(mode="json"),
            "status": status,
            "created_at": START,
            "updated_at": START,
            **changes,
        }
    )
    rows = JobRows(
        job=job, resolved=RESOLVED, stages=[], manifests={}, questions=10, evaluation_questions=0, position=None
    )
    return job_view(rows, now=now)


@pytest.mark.parametrize(("waited", "shown"), [(0, 0.0), (9.9, 0.0), (10, 10.0), (64, 60.0)])
def test_a_waiting_jobs_time_grows_in_steps(waited: float, shown: float) -> None:
    assert view(JobStatus.QUEUED, after(waited)).queue.waited_seconds == shown


def test_waiting_ends_with_the_start() -> None:
    assert view(JobStatus.RUNNING, after(999), started_at=after(12.5)).queue.waited_seconds == 12.5


def test_a_job_that_never_started_waited_until_its_end() -> None:
    assert view(JobStatus.CANCELLED, after(999), finished_at=after(4)).queue.waited_seconds == 4.0


def test_the_forecast_goes_on_at_the_same_pace() -> None:
    running = {"started_at": after(100), "updated_at": after(130), "percent": 25.0}
    assert view(JobStatus.RUNNING, after(999), **running).estimated_finish_at == after(220)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (JobStatus.QUEUED, {}),
        (JobStatus.RUNNING, {}),
        (JobStatus.RUNNING, {"started_at": START, "percent": 1.9}),
        (JobStatus.SUCCEEDED, {"started_at": START, "percent": 100.0}),
    ],
)
def test_there_is_no_forecast_without_ground(status: JobStatus, changes: dict[str, object]) -> None:
    assert view(status, after(50), **changes).estimated_finish_at is None


def test_two_looks_at_an_unchanged_job_are_equal() -> None:
    running = {"started_at": after(1), "updated_at": after(20), "percent": 50.0}
    assert view(JobStatus.RUNNING, after(21), **running) == view(JobStatus.RUNNING, after(5000), **running)


def test_a_running_stage_has_run_until_its_last_sign_of_life() -> None:
    stage = Stage.model_validate(
        {
            "id": "stg_1",
            "team": "default",
            "job_id": JOB_ID,
            "name": "flow",
            "kind": StageKind.FLOW,
            "queue": FACTS[StageKind.FLOW].service,
            "position": 0,
            "parameters": {},
            "inputs": {},
            "depends_on": [],
            "status": StageStatus.RUNNING,
            "created_at": START,
            "started_at": after(10),
        }
    )
    assert stage_view(stage, until=after(17)).seconds == 7.0
    # The last sign of life may be older than this attempt.
    assert stage_view(stage, until=after(3)).seconds == 0.0


def test_one_instant_has_one_text() -> None:
    moment = datetime(2026, 1, 1, 13, 0, 0, 1234, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(moment) == "2026-01-01T12:00:00.001Z"
