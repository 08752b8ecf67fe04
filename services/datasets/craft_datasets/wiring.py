"""Builds this service's objects from the settings. Nothing else reads them; tests never import this file."""

from fastapi import FastAPI

from craft.infra.artifacts import FolderStore
from craft.infra.http import create_app
from craft.infra.settings import Settings
from craft_datasets import stages
from craft_datasets.intake import DatasetIntake
from craft_datasets.routes import router

stage_functions = stages.stage_functions


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application."""
    intake = DatasetIntake(FolderStore(settings.resolved_artifacts_dir), settings.datasets)
    return create_app(
        title="CRaFT datasets",
        service="datasets",
        routers=[router(intake)],
        max_body_bytes=settings.datasets.max_upload_bytes,
    )
