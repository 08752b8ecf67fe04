"""The parameters of a package stage for the tiny model."""

import pytest

from craft.contracts.spec.jobs import PromptSettings
from craft.contracts.stages.parameters import PackageParameters
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft_training.base_models import BaseModel


@pytest.fixture
def parameters(base: BaseModel) -> PackageParameters:
    return PackageParameters(
        task=Task.OPEN_ENDED,
        model=base.ref,
        trainer=base.trainer,
        strategy=Strategy.CRAFT,
        prompts=PromptSettings(),
        max_new_tokens=8,
    )
