"""The demo's job specification."""

import pytest
from tests.services.cli.views import DATASET_ID

from craft.contracts.spec.jobs import JobSpec
from craft.core.questions import Task
from craft_cli.demo import specification


@pytest.mark.parametrize("task", list(Task))
def test_the_demos_job_is_a_valid_specification(task: Task) -> None:
    spec = JobSpec.model_validate(specification(task, dataset_id=DATASET_ID, seed=1))
    assert (spec.task, [s.value for s in spec.strategies]) == (task, ["craft", "cor-rait"])
