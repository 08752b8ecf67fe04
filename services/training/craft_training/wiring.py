"""Builds this service's objects from the settings. Nothing else reads them; tests never import this file."""

import os

from fastapi import FastAPI

from craft.infra.device.choice import expected_device
from craft.infra.http.app import create_app
from craft.infra.http.service_access import service_access
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.settings import Settings
from craft.infra.stage.context import StageFunctions
from craft_training.routes import router
from craft_training.tuning.throughput import ThroughputFile


def stage_functions() -> StageFunctions:
    """This service's stages by kind, for the worker's child process."""
    # Imported here because the HTTP process does not need torch, which takes seconds and half a gigabyte.
    from craft_training.base_models import BaseModels
    from craft_training.stages import TrainingStages

    settings = Settings()
    return TrainingStages(
        BaseModels(
            ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models), settings.training
        ),
        checkpoint_seconds=settings.training.checkpoint_seconds,
        throughput=_throughput(settings),
    ).functions()


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application."""
    return create_app(
        title="CRaFT training",
        service="training",
        inner=service_access(settings, settings.training),
        routers=[
            router(
                ModelFolders(settings.resolved_models_dir, experimental=settings.experimental_models),
                _throughput(settings),
                # Without torch, which takes seconds and half a gigabyte.
                device=expected_device(settings.training.device, os.environ),
                weight_bytes=2 if settings.training.dtype == "bfloat16" else 4,
            )
        ],
    )


def _throughput(settings: Settings) -> ThroughputFile:
    return ThroughputFile(settings.state_dir / "training" / "throughput.json")
