"""Builds this service's objects from the settings, which nothing else reads. Tests never import this file."""

from fastapi import FastAPI

from craft.infra.http.app import create_app
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.http.service_access import service_access
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft_datasets import stages
from craft_datasets.intake import DatasetIntake
from craft_datasets.routes import router
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.s3 import signer
from craft_datasets.sources.sources import Sources
from craft_datasets.turns import fetch_turns, reading_turns

_FORM_BYTES = 2**20
"""Room for the form around the file."""
stage_functions = stages.stage_functions


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application."""
    intake = DatasetIntake(FolderStore(settings.resolved_artifacts_dir), settings.datasets)
    own = settings.datasets
    limits = Limits(max_bytes=own.max_upload_bytes, seconds=own.fetch_seconds, idle_seconds=own.fetch_idle_seconds)
    fetcher = Fetcher(OutboundPolicy(settings.outbound.allowed_hosts), limits)
    sources = Sources(fetcher, hub=own.hub, s3=own.s3, sign=signer(own.s3.region))
    return create_app(
        title="CRaFT datasets",
        service="datasets",
        inner=service_access(settings, settings.datasets),
        routers=[router(intake, sources, readings=reading_turns(own.readings_at_once), fetches=fetch_turns())],
        max_body_bytes=settings.datasets.max_upload_bytes + _FORM_BYTES,
    )
