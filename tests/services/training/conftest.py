"""A tiny base model for the training service's tests, and rows to train it on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny_model import known_facts, made_up_facts, make_tiny_model

from craft.contracts.stages.parameters import TrainerRef
from craft.contracts.stages.rows import ChatMessage, TrainingKind, TrainingRow
from craft.core.prompts import DEFAULT_TEMPLATES, PromptMode, answer_messages
from craft.core.questions import OpenQuestion
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft_training.base_models import BaseModel, BaseModels

MODEL_ID = "tests/tiny"


@pytest.fixture(scope="session")
def facts() -> list[tuple[str, str]]:
    return made_up_facts(40, seed=5)


@pytest.fixture(scope="session")
def known(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return known_facts(facts)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, facts: list[tuple[str, str]]) -> Path:
    """A models folder with the tiny model."""
    root = tmp_path_factory.mktemp("models")
    make_tiny_model(root / MODEL_ID, facts, seed=1)
    return root


@pytest.fixture(scope="session")
def folders(models_dir: Path) -> ModelFolders:
    """The content of the models folder."""
    return ModelFolders(models_dir)


@pytest.fixture(scope="session")
def models(folders: ModelFolders) -> BaseModels:
    # One thread: such a small model gains nothing from two, and loses much where others use the machine.
    return BaseModels(folders, TrainingServiceSettings(device="cpu", threads=1))


@pytest.fixture(scope="session")
def base(models: BaseModels, folders: ModelFolders) -> BaseModel:
    """The tiny model in float32. Tests share it, so a test that changes it must restore it."""
    return models.get(folders.find(MODEL_ID).ref, TrainerRef(dtype="float32"))


@pytest.fixture
def row() -> Callable[[str, str], TrainingRow]:
    """Makes a training row of a question and its target, with the REFUSE prompt."""

    def make(question: str, target: str) -> TrainingRow:
        asked = answer_messages(OpenQuestion("q", question, ("x",)), PromptMode.REFUSE, DEFAULT_TEMPLATES)
        return TrainingRow(
            id=f"row of {question}",
            kind=TrainingKind.VAN,
            messages=[ChatMessage(role=turn.role, content=turn.content) for turn in asked],
            target=target,
        )

    return make
