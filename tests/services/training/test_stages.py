"""The rehearse and tune stages: their output, their refusals, and the model that they share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.diagnosis import DIAGNOSIS, DIAGNOSIS_FILE, ProbeDiagnosis, ShortageView
from craft.contracts.stages.parameters import ModelRef, RehearseParameters, TrainerRef, TuneParameters
from craft.contracts.stages.rows import CurveRow, TrainingRow
from craft.errors import (
    ContextTooLong,
    DatasetInvalid,
    DeploymentChanged,
    ModelNotFound,
    RehearsalTooShort,
    RequestInvalid,
)
from craft.infra.device.deployment import trainer_versions
from craft.infra.models.folders import ModelFolders
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_training.base_models import BaseModels
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import KnownThroughput

Row = Callable[[str, str], TrainingRow]
FLOAT32 = TrainerRef(dtype="float32")
SETTINGS = TrainingSettings(lora_r=4, learning_rate=5e-3, epochs=2, batch_size=4)


@dataclass
class Rig:
    """Stages over the tiny model, and a working folder."""

    stages: TrainingStages
    model: ModelRef
    folder: Path
    throughput: KnownThroughput
    seen: list[StageProgress] = field(default_factory=list)

    def context(self, rows: list[TrainingRow], name: str = "stage") -> LocalContext:
        for part in ("output", "checkpoint", "rows"):
            (self.folder / name / part).mkdir(parents=True, exist_ok=True)
        write_rows(self.folder / name / "rows" / "training.jsonl", rows)
        return LocalContext(
            output=self.folder / name / "output",
            checkpoint=self.folder / name / "checkpoint",
            inputs={"rows": self.folder / name / "rows"},
            on_progress=self.seen.append,
        )

    def tuning(self, settings: TrainingSettings = SETTINGS) -> TuneParameters:
        return TuneParameters(model=self.model, trainer=FLOAT32, training=settings, seed=3)

    def rehearsal(self, settings: TrainingSettings = SETTINGS) -> RehearseParameters:
        return RehearseParameters(model=self.model, trainer=FLOAT32, training=settings, seed=3)


@pytest.fixture
def rig(models: BaseModels, folders: ModelFolders, tmp_path: Path) -> Rig:
    throughput = KnownThroughput()
    stages = TrainingStages(models, checkpoint_seconds=1e9, throughput=throughput)
    return Rig(stages, folders.find("tests/tiny").ref, tmp_path, throughput)


@pytest.fixture
def rows(row: Row, facts: list[tuple[str, str]]) -> list[TrainingRow]:
    return [row(question, answer) for question, answer in facts[:8]]


def test_tuning_writes_adapter_and_curve_and_reports_each_step(rig: Rig, rows: list[TrainingRow]) -> None:
    context = rig.context(rows)
    result = rig.stages.tune(rig.tuning(), context)
    assert sorted(path.name for path in context.output.iterdir()) == ["adapter", "curve.jsonl"]
    curve = list(read_rows(context.output / "curve.jsonl", CurveRow))
    assert [row.step for row in curve] == [1, 2, 3, 4]
    assert [(progress.done, progress.total) for progress in rig.seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [progress.metrics["loss"] for progress in rig.seen] == [row.loss for row in curve]
    assert result.counts["rows"] == 8
    assert result.counts["steps"] == 4
    assert result.cost.trained_tokens > 8 * 2 * 20
    assert set(result.versions) == {"torch", "transformers", "peft"}
    assert result.notes == ["float32 on cpu"]
    assert rig.throughput.flops_per_second is not None


def test_a_rehearsal_of_too_few_steps_fails_with_a_hint(rig: Rig, rows: list[TrainingRow]) -> None:
    settings = SETTINGS.model_copy(update={"min_steps": 5})
    with pytest.raises(RehearsalTooShort, match="4 optimiser steps; at least 5") as raised:
        rig.stages.rehearse(rig.rehearsal(settings), rig.context(rows))
    assert "batch_size" in str(raised.value.hint)
    with pytest.raises(DatasetInvalid, match="at least 5"):
        rig.stages.tune(rig.tuning(settings), rig.context(rows))


def test_a_rehearsal_of_too_few_steps_is_explained_by_the_probe(rig: Rig, rows: list[TrainingRow]) -> None:
    context = rig.context(rows)
    shortage = ShortageView(reason="the model thinks", change="Switch it off.", samples=["“Q” → “<think>”"])
    document = ProbeDiagnosis(seen="Nothing is right.", few_known=shortage, few_unknown=shortage)
    (context.output.parent / DIAGNOSIS_FILE).write_text(document.model_dump_json())
    context.inputs = {**context.inputs, DIAGNOSIS: context.output.parent}
    with pytest.raises(RehearsalTooShort, match=r"at least 5 are needed\. Nothing is right\. Most likely the model"):
        rig.stages.rehearse(rig.rehearsal(SETTINGS.model_copy(update={"min_steps": 5})), context)


def test_a_rehearsal_of_just_enough_steps_runs(rig: Rig, rows: list[TrainingRow]) -> None:
    settings = SETTINGS.model_copy(update={"min_steps": 4})
    assert rig.stages.rehearse(rig.rehearsal(settings), rig.context(rows)).counts["steps"] == 4


def test_an_empty_set_is_an_error(rig: Rig) -> None:
    with pytest.raises(DatasetInvalid, match="empty"):
        rig.stages.tune(rig.tuning(), rig.context([]))


def test_a_row_that_is_too_long_is_named(rig: Rig, rows: list[TrainingRow], row: Row) -> None:
    long = row("Who " + "and who " * 60 + "?", "Mugoze")
    named = long.model_copy(update={"line": 758})
    with pytest.raises(ContextTooLong, match=r"1 of .* line 758, “.*and who \?”") as raised:
        rig.stages.tune(rig.tuning(SETTINGS.model_copy(update={"max_length": 64})), rig.context([*rows, named]))
    [detail] = raised.value.details
    assert (detail.line, detail.field) == (758, "question")


def test_a_few_rows_that_own_targets_made_too_long_are_left_out_and_told(
    rig: Rig, rows: list[TrainingRow], row: Row
) -> None:
    long = row("Who is it?", "Mugoze " * 100).model_copy(update={"line": 9})
    many = [each.model_copy(update={"id": f"{n} {each.id}"}) for n in range(4) for each in rows]
    result = rig.stages.tune(rig.tuning(SETTINGS.model_copy(update={"max_length": 64})), rig.context([*many, long]))
    assert result.counts["rows"] == len(many)
    [found] = result.findings
    assert (found.code, found.severity, found.lines) == ("rows_too_long", "warning", [9])
    assert f"1 of {len(many) + 1} training rows" in found.message


def test_the_models_own_context_is_a_limit_too(rig: Rig, row: Row) -> None:
    long = row("Who " + "and who " * 900 + "?", "Mugoze")
    settings = SETTINGS.model_copy(update={"max_length": 100_000})
    with pytest.raises(ContextTooLong, match="at most 2,048"):
        rig.stages.tune(rig.tuning(settings), rig.context([long]))


def test_a_changed_model_is_refused(rig: Rig, rows: list[TrainingRow]) -> None:
    parameters = rig.tuning().model_copy(update={"model": rig.model.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(ModelNotFound, match="changed"):
        rig.stages.tune(parameters, rig.context(rows))


def test_a_trainer_that_the_worker_is_not_is_refused_before_the_model_is_looked_for(models: BaseModels) -> None:
    for agreed in (TrainerRef(versions="torch 1.0"), TrainerRef(versions=trainer_versions(), device="cuda")):
        with pytest.raises(DeploymentChanged):
            models.get(ModelRef(id="none/such", revision="main", digest="0" * 64), agreed)


def test_a_second_stage_reuses_the_model_and_starts_from_the_same_weights(
    rig: Rig, rows: list[TrainingRow], models: BaseModels
) -> None:
    first = rig.context(rows, "first")
    rig.stages.tune(rig.tuning(), first)
    loaded = models.get(rig.model, FLOAT32)
    second = rig.context(rows, "second")
    rig.stages.tune(rig.tuning(), second)
    assert models.get(rig.model, FLOAT32) is loaded
    name = "adapter/adapter_model.safetensors"
    assert (first.output / name).read_bytes() == (second.output / name).read_bytes()


def test_a_failed_stage_drops_the_loaded_model(folders: ModelFolders, rig: Rig, row: Row) -> None:
    from craft.infra.settings.training import TrainingServiceSettings

    own = BaseModels(folders, TrainingServiceSettings(device="cpu"))
    loaded = own.get(rig.model, FLOAT32)
    stages = TrainingStages(own, checkpoint_seconds=1e9, throughput=KnownThroughput())
    parameters = rig.tuning(SETTINGS.model_copy(update={"target_modules": ["no_such_layer"]}))
    with pytest.raises(RequestInvalid, match="no_such_layer"):
        stages.tune(parameters, rig.context([row("Who?", "Mugoze")]))
    assert own.get(rig.model, FLOAT32) is not loaded


def test_target_modules_choose_the_layers(rig: Rig, rows: list[TrainingRow]) -> None:
    context = rig.context(rows)
    rig.stages.tune(rig.tuning(SETTINGS.model_copy(update={"target_modules": ["q_proj", "v_proj"]})), context)
    config = json.loads((context.output / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]
