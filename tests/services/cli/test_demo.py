"""The demo's job specification."""

import pytest
from tests.services.cli.views import DATASET_ID, job_view

from craft.contracts.documents.estimate import SecondsEstimate
from craft.contracts.public.jobs import PlannedStageView, ValidationView
from craft.contracts.spec.jobs import JobSpec, JobStatus
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft.core.questions import Task
from craft_cli.demo import outlook, specification


@pytest.mark.parametrize("task", list(Task))
def test_the_demos_job_is_a_valid_specification(task: Task) -> None:
    spec = JobSpec.model_validate(specification(task, dataset_id=DATASET_ID, seed=1))
    assert (spec.task, [s.value for s in spec.strategies]) == (task, ["craft", "cor-rait"])


def planned(*, reused: bool) -> ValidationView:
    job = job_view(JobStatus.QUEUED)
    stages = [
        PlannedStageView(name=name, kind=kind, service=Service.INFERENCE, depends_on=[], reused=reused)
        for name, kind in (("probe:initial", StageKind.PROBE), ("probe:rehearsed", StageKind.PROBE))
    ]
    return ValidationView(resolved=job.resolved, stages=stages, estimate=job.estimate)


def test_the_demo_tells_first_how_long_it_takes_and_what_its_stages_do() -> None:
    assert [*outlook(planned(reused=False))] == [
        "It takes about 16 minutes on two idle cores, and longer beside other work.",
        f"  probe          {FACTS[StageKind.PROBE].meaning}",
    ]


def test_the_demo_tells_the_time_that_past_stages_took_here() -> None:
    view = planned(reused=False)
    seconds = SecondsEstimate(seconds=300.0, low=240.0, high=600.0, based_on=9)
    known = view.model_copy(update={"estimate": view.estimate.model_copy(update={"seconds": seconds})})
    assert next(outlook(known)) == (
        "It takes about 5.0 min [4.0 min, 10.0 min], as past stages did here, and longer beside other work."
    )


def test_a_demo_that_was_run_before_says_that_it_is_all_reuse() -> None:
    assert [*outlook(planned(reused=True))] == ["All stages were done before: their results are used again."]
