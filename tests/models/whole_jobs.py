"""Runs all stages of a job in this process, in their planned order, with the services' own functions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.infra.models.inspection.folders import dataset

from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef, TrainerRef
from craft.contracts.stages.rows import QuestionRow
from craft.infra.models.chats.formats import settled_chats
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import LocalContext, StageFunction
from craft_datasets.stages import stage_functions as dataset_stages
from craft_gateway.plan.stages import FromStage, PlannedStage, ResolvedJob, plan
from craft_inference import stages as inference
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import Engine
from craft_inference.engine_holder import EngineHolder
from craft_scoring.embedding.fake import HashingEmbedder
from craft_scoring.evaluation import evaluate
from craft_scoring.stages import flow, score
from craft_training.base_models import BaseModels
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import ThroughputFile

_TRAINING = {"lora_r": 16, "lora_alpha": 32, "epochs": 12, "batch_size": 8, "learning_rate": 5e-3}


class WholeJob:
    """One job over a folder of models. `results` and `folder` are by stage."""

    def __init__(self, models: Path, root: Path, rows: Sequence[QuestionRow], **base_model: Any) -> None:
        folders = ModelFolders(models)
        self.spec = JobSpec.model_validate(
            {
                "base_model": {"id": "tiny", **base_model},
                "dataset": {"id": "dset_01jgywz3x4v5q6r7s8t9vawbxc"},
                "strategies": ["cor-rait"],
                "split": {"held_out_fraction": 0.3},
                "probe": {"samples": 4, "temperature": 0.7, "max_new_tokens": 24},
                "training": _TRAINING,
                "evaluation_settings": {"max_new_tokens": 24, "resamples": 100},
            }
        )
        found = folders.find("tiny")
        chats = settled_chats(found.path, self.spec.base_model, today=datetime.now(UTC).date())
        self.model: ModelRef = found.ref.model_copy(update={"chat": chats.form})
        self.results: dict[str, StageResult] = {}
        self._root = root
        self._dataset = dataset(root / "dataset", rows)
        self._functions = _functions(folders, root)

    def folder(self, stage: str) -> Path:
        """The folder that the stage wrote."""
        return self._root / stage.replace(":", "-")

    def run(self) -> None:
        """Do every stage but the report. Raises the error of the first that fails."""
        stored = ArtifactRef(key="0" * 64, digest="0" * 64)
        job = ResolvedJob(
            spec=self.spec,
            model=self.model,
            engine=EngineRef(dtype="float32"),
            trainer=TrainerRef(dtype="float32"),
            embedder="hashing",
            dataset=stored,
        )
        for stage in plan(job):
            if stage.kind is not StageKind.REPORT:
                self.results[stage.name] = self._run(stage)

    def _run(self, stage: PlannedStage) -> StageResult:
        output, checkpoint = self.folder(stage.name), self.folder(f"{stage.name}-checkpoint")
        output.mkdir()
        checkpoint.mkdir()
        inputs = {
            role: self.folder(source.name) if isinstance(source, FromStage) else self._dataset
            for role, source in stage.inputs.items()
        }
        return self._functions[stage.kind](stage.parameters, LocalContext(output, checkpoint, inputs))


def _functions(folders: ModelFolders, root: Path) -> Mapping[StageKind, StageFunction]:
    def load(model: ModelRef, folder: Path, engine: EngineRef) -> Engine:
        return TransformersEngine.load(folder, dtype=engine.dtype, form=model.chat)

    engines = EngineHolder(load, folders.locate, name="transformers")
    models = BaseModels(folders, TrainingServiceSettings(device="cpu"))
    training = TrainingStages(models, checkpoint_seconds=60.0, throughput=ThroughputFile(root / "throughput.json"))
    return {
        **dataset_stages(),
        **training.functions(),
        StageKind.PROBE: partial(inference.probe, engines=engines),
        StageKind.ANSWER: partial(inference.answer, engines=engines),
        StageKind.SCORE: partial(score, embedders=lambda _: HashingEmbedder()),
        StageKind.FLOW: flow,
        StageKind.EVALUATE: evaluate,
    }
