"""Builds this service's objects from the settings. Nothing else reads them; tests never import this file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from craft.contracts.job import BaseModelRef
from craft.contracts.stages import EngineRef, ModelRef, StageKind
from craft.errors import ModelRejected
from craft.infra.http import create_app
from craft.infra.models import ModelFolders
from craft.infra.settings import InferenceSettings, Settings, engine_ref
from craft.infra.stage import StageFunction
from craft_inference import stages
from craft_inference.calls import Calls
from craft_inference.engine import Engine
from craft_inference.loaded import LoadedEngine
from craft_inference.routes import router

_SAMPLES = 10
"""The method's N: `questions_per_batch` questions of so many samples fill the engine's rows."""


def stage_functions() -> Mapping[StageKind, StageFunction]:
    """The stages of this service, bound to one warm engine; called once in a worker's child process."""
    settings = Settings()
    engines = _engines(settings)
    return {
        StageKind.PROBE: partial(stages.probe, engines=engines),
        StageKind.ANSWER: partial(stages.answer, engines=engines),
    }


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application; it loads a model at the first call that names one."""
    folders = ModelFolders(settings.resolved_models_dir)

    def find(model: BaseModelRef) -> ModelRef:
        return folders.find(model.id, model.revision).ref

    engine = engine_ref(settings.inference)
    return create_app(
        title="CRaFT inference", service="inference", routers=[router(Calls(_engines(settings), find, engine))]
    )


def _engines(settings: Settings) -> LoadedEngine:
    folders = ModelFolders(settings.resolved_models_dir)
    return LoadedEngine(partial(_load, settings.inference), folders.locate, name=settings.inference.engine)


def _load(settings: InferenceSettings, folder: Path, engine: EngineRef) -> Engine:
    if engine.name != "transformers":
        raise ModelRejected(f"The {engine.name} engine is not built into this version.", param="engine")
    # torch is imported at the first model only: health checks and OpenAPI answer at once.
    import torch

    from craft_inference.transformers_engine import TransformersEngine

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    rows = engine.questions_per_batch * _SAMPLES
    return TransformersEngine.load(folder, dtype=engine.dtype, device=settings.device, rows=rows)
