"""Builds this service's objects from the settings. Nothing else reads them; tests never import this file."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from craft.contracts.services.model_server import ServedBase
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.infra.device.deployment import check_engine, embedded_versions, engine_ref
from craft.infra.http.app import create_app
from craft.infra.http.server.serve import raise_descriptor_limit
from craft.infra.http.service_access import service_access
from craft.infra.models.chats.formats import settled_chats
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft.infra.settings.settings import Settings
from craft.infra.stage.context import StageFunction
from craft.infra.storage.served_adapters import ServedAdapters
from craft_inference import stages
from craft_inference.calls import Calls
from craft_inference.engine import Engine
from craft_inference.engine_holder import EngineHolder
from craft_inference.routes import router

_SAMPLES = 10
"""The method's N. `questions_per_batch` questions with N samples each fill the engine's rows."""


def stage_functions() -> Mapping[StageKind, StageFunction]:
    """The stages of this service, bound to one warm engine; called once in a worker's child process."""
    settings = Settings()
    # A worker has the device lock before its child does anything.
    engines = _engines(settings, has_device=True)
    return {
        StageKind.PROBE: partial(stages.probe, engines=engines),
        StageKind.ANSWER: partial(stages.answer, engines=engines),
    }


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application. It loads a model at the first call that names one."""
    folders = ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models)

    def find(model: BaseModelRef) -> ModelRef:
        found = folders.find(model.id, model.revision)
        chats = settled_chats(found.path, model, today=datetime.now(UTC).date())
        return found.ref.model_copy(update={"chat": chats.form})

    # A call leaves nothing behind that could be reused, so whatever is installed answers it.
    engine = engine_ref(settings.inference, os.environ).model_copy(update={"versions": ""})
    return create_app(
        title="CRaFT inference",
        service="inference",
        inner=service_access(settings, settings.inference),
        routers=[router(Calls(_engines(settings, has_device=False), find, engine))],
    )


def _engines(settings: Settings, *, has_device: bool) -> EngineHolder:
    folders = ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models)
    load = (
        partial(_vllm, settings, has_device)
        if settings.inference.engine == "vllm"
        else partial(_transformers, settings.inference)
    )
    own = engine_ref(settings.inference, os.environ)
    # vLLM's version is its server's: it is known when a session is opened.
    versions = "" if own.name == "vllm" else embedded_versions()
    check = partial(check_engine, own=own.model_copy(update={"versions": versions}))
    return EngineHolder(load, folders.locate, name=own.name, check=check)


def _vllm(settings: Settings, has_device: bool, model: ModelRef, folder: Path, engine: EngineRef) -> Engine:  # noqa: FBT001
    from craft_inference.adapter_shapes import check_fits, write_neutral_adapter
    from craft_inference.prompting.chat import chat_of
    from craft_inference.vllm.agreed_version import lease_agreed
    from craft_inference.vllm.client import ServerAccess, lease_model, request_connections
    from craft_inference.vllm.engine import ServerUse, VllmEngine

    vllm = settings.inference.vllm
    access = ServerAccess(
        url=settings.resolved_model_server_url,
        token=settings.model_server_token,
        has_device=has_device,
        wait_seconds=vllm.start_seconds,
    )
    use = ServerUse(
        ServedBase(model=model.weights, dtype=engine.dtype),
        vllm.sequences_in_flight,
        vllm.seed_requests,
        longer_context=_longer_context(vllm),
        asks_context=vllm.url is not None or vllm.max_model_len == "auto",
        adapters=has_device,  # stages are parts of jobs, which need them; calls do not
        connections=request_connections(raise_descriptor_limit()),
    )
    most = vllm.max_model_len if isinstance(vllm.max_model_len, int) else None
    chat = chat_of(folder, max_tokens=most, form=model.chat)
    adapters = ServedAdapters(settings.resolved_adapters_dir)
    return VllmEngine(
        chat,
        lease_agreed(partial(lease_model, access), versions=engine.versions),
        adapters,
        use,
        check_adapter=partial(check_fits, model=folder),
        write_neutral=partial(write_neutral_adapter, model=folder),
    )


def _longer_context(vllm: VllmSettings) -> str:
    if vllm.url is not None:
        return f"Or start the vLLM server at {vllm.url} with a larger --max-model-len."
    if vllm.max_model_len == "auto":
        return "Or give vLLM more of the device: raise CRAFT_INFERENCE__VLLM__GPU_MEMORY_UTILIZATION."
    return "Or raise CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN."


def _transformers(settings: InferenceSettings, model: ModelRef, folder: Path, engine: EngineRef) -> Engine:
    # torch is imported at the first model only: health checks and OpenAPI answer at once.
    import torch

    from craft_inference.embedded.engine import TransformersEngine

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    rows = engine.questions_per_batch * _SAMPLES
    return TransformersEngine.load(folder, dtype=engine.dtype, rows=rows, form=model.chat)
