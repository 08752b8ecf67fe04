"""Errors of stages name what users know, and never a folder of the server."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import model_folder
from tests.services.gateway.rigs.world import resolved
from tests.services.inference.test_stages import holding

from craft.contracts.problems import StageError
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import TrainerRef
from craft.contracts.stages.rows import ADAPTER_FOLDER, ADAPTER_WEIGHTS, ProbeRow, QuestionRow
from craft.core.strategies import Strategy
from craft.errors import Internal, MissingStates, ModelRejected
from craft.infra.models.folders import ModelFolders
from craft.infra.process.error_mapping import error_of
from craft.infra.process.server_paths import stage_error_without_paths
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import LocalContext, StageFunctions
from craft_datasets.stages import stage_functions as of_datasets
from craft_gateway.plan.stages import PlannedStage, plan
from craft_inference.adapter_shapes import check_fits
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.fake_engine import FakeEngine
from craft_inference.prompting.chat import chat_of
from craft_inference.stages import answer, probe
from craft_scoring.embedding.fake import HashingEmbedder
from craft_scoring.evaluation import evaluate
from craft_scoring.joins import by_id, joined
from craft_scoring.report.stage import report
from craft_scoring.stages import flow, score
from craft_training.base_models import BaseModels
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import KnownThroughput

STAGES = {stage.name: stage for stage in plan(resolved(*Strategy, evaluation=["nq"]))}


def functions(models: Path) -> StageFunctions:
    """The stages of all services, with fakes in place of models."""
    bases = BaseModels(ModelFolders(models), TrainingServiceSettings())
    training = TrainingStages(bases, checkpoint_seconds=60, throughput=KnownThroughput())
    engines = holding(FakeEngine())
    return {
        **of_datasets(),
        **training.functions(),
        StageKind.PROBE: partial(probe, engines=engines),
        StageKind.ANSWER: partial(answer, engines=engines),
        StageKind.SCORE: partial(score, embedders=lambda _: HashingEmbedder()),
        StageKind.FLOW: flow,
        StageKind.EVALUATE: evaluate,
        StageKind.REPORT: report,
    }


def shown(error: BaseException) -> str:
    """The error as the API shows it, as JSON."""
    return stage_error_without_paths(StageError.of(error_of(error))).model_dump_json()


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_an_input_without_its_files_is_told_without_the_artifacts_folder(tmp_path: Path, stage: PlannedStage) -> None:
    inputs: Mapping[str, Path] = {role: tmp_path / "artifacts" / role for role in stage.inputs}
    for folder in (*inputs.values(), tmp_path / "output", tmp_path / "checkpoint"):
        folder.mkdir(parents=True)
    context = LocalContext(tmp_path / "output", tmp_path / "checkpoint", inputs)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is, it must name no folder
        functions(tmp_path / "models")[stage.kind](stage.parameters, context)
    assert str(tmp_path) not in shown(raised.value)
    assert error_of(raised.value).message


def broken_model(models: Path) -> Path:
    """A model that passes the checks of a folder, and that no library can load."""
    return model_folder(models, "some/model", model_type="llama", rope_scaling={"rope_type": "none of these"})


def load_chat(models: Path) -> Any:
    return chat_of(broken_model(models), max_tokens=None)


def load_engine(models: Path) -> Any:
    return TransformersEngine.load(broken_model(models))


def load_base(models: Path) -> Any:
    broken_model(models)
    ref = ModelFolders(models).find("some/model").ref
    return BaseModels(ModelFolders(models), TrainingServiceSettings()).get(ref, TrainerRef())


def fit_adapter(models: Path) -> Any:
    folder = models / ADAPTER_FOLDER
    folder.mkdir()
    (folder / ADAPTER_WEIGHTS).write_bytes(b"no weights")
    return check_fits(folder, models)


@pytest.mark.parametrize("load", [load_chat, load_engine, load_base, fit_adapter])
def test_a_model_that_cannot_be_loaded_is_told_without_the_models_folder(
    tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with pytest.raises(ModelRejected) as raised:
        load(models)
    assert str(tmp_path) not in raised.value.message
    assert str(tmp_path) not in shown(raised.value)


ASKED = QuestionRow(id="f31c", question="Who wrote Faust?", answers=["Goethe"], line=12)


@pytest.mark.parametrize(
    "fail",
    [
        lambda: by_id([ASKED, ASKED], what="train"),
        lambda: joined([ASKED], list[ProbeRow](), what="probe"),
    ],
)
def test_a_question_that_is_lost_in_a_join_is_named_by_its_line_and_words(fail: Callable[[], object]) -> None:
    with pytest.raises(MissingStates, match=r"line 12, “Who wrote Faust\?” \(id f31c\)"):
        fail()


def test_a_question_without_samples_is_named_by_its_line_and_words(tmp_path: Path) -> None:
    for name, file, rows in (("a", "train.jsonl", [ASKED]), ("b", "samples.jsonl", [ProbeRow(id="f31c", samples=[])])):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows))
    context = LocalContext(tmp_path, tmp_path, {"questions": tmp_path / "a", "probe": tmp_path / "b"})
    with pytest.raises(Internal, match=r"line 12, “Who wrote Faust\?”"):
        functions(tmp_path)[StageKind.SCORE](STAGES["score:initial"].parameters, context)
