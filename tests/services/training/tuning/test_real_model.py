"""The real small model of the demo, in the precision in which this machine is fast."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fetched_models import MODELS

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import TrainerRef
from craft.contracts.stages.rows import CurveRow, TrainingRow
from craft.errors import ModelNotFound
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel, BaseModels
from craft_training.tuning.answer_trainer import answer_loss
from craft_training.tuning.batches import may_pack, pack, pad
from craft_training.tuning.samples import Sample, tokenise
from craft_training.tuning.tuning import TuningRun, tune

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PLACES = ("France", "Peru", "Kenya", "Nepal", "Chile", "Ghana", "Laos", "Malta")

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def smol() -> BaseModel:
    folders = ModelFolders(MODELS)
    try:
        found = folders.find(MODEL_ID)
    except ModelNotFound:
        pytest.skip("The model is not fetched: run `make models`.")
    return BaseModels(folders, TrainingServiceSettings(device="cpu")).get(found.ref, TrainerRef())


@pytest.fixture
def samples(smol: BaseModel, row: Callable[[str, str], TrainingRow]) -> list[Sample]:
    rows = [row(f"What is the capital of {place}?", "I don't know.") for place in PLACES]
    return tokenise(rows, smol.chat, max_length=512).samples


def test_the_end_of_turn_is_the_token_at_which_the_model_stops(smol: BaseModel) -> None:
    assert smol.chat.end_of_turn == smol.model.generation_config.eos_token_id


def test_packed_and_padded_losses_agree_in_the_models_own_precision(smol: BaseModel, samples: list[Sample]) -> None:
    assert may_pack(smol.model.config)
    packed = answer_loss(smol.model, pack(samples), autocast=True).item()
    padded = answer_loss(smol.model, pad(samples), autocast=True).item()
    assert packed == pytest.approx(padded, rel=0.02)


def test_a_few_steps_teach_it_to_refuse(smol: BaseModel, samples: list[Sample], tmp_path: Path) -> None:
    curve: list[CurveRow] = []
    settings = TrainingSettings(lora_r=8, learning_rate=1e-3, epochs=6, batch_size=8)
    (tmp_path / "checkpoints").mkdir()
    tune(
        smol,
        TuningRun(samples, settings, seed=1),
        adapter=tmp_path / "adapter",
        checkpoints=tmp_path / "checkpoints",
        checkpoint_seconds=1e9,
        on_step=lambda row, _steps: curve.append(row),
        on_saved=lambda: None,
        stop=StopRequest(),
    )
    assert curve[-1].loss < curve[0].loss / 2
