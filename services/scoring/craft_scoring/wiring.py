"""Builds this service's objects from the settings. Nothing else reads them; tests never import this file."""

from collections.abc import Mapping
from functools import partial
from threading import Lock

from fastapi import FastAPI

from craft.contracts.stages.kinds import StageKind
from craft.infra.http.app import create_app
from craft.infra.http.service_access import service_access
from craft.infra.settings.settings import Settings
from craft.infra.stage.context import StageFunction
from craft_scoring.embedding.embedder import Embedder, EmbedderSource
from craft_scoring.evaluation import evaluate
from craft_scoring.report.stage import report
from craft_scoring.routes import router
from craft_scoring.stages import flow, score

MAX_BODY_BYTES = 64 * 2**20


class Embedders:
    """Imports sentence-transformers at the first use: flow, evaluate, report and most calls do not need torch."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._source: EmbedderSource | None = None

    def __call__(self, name: str) -> Embedder:
        """See `EmbedderSource`."""
        with self._lock:
            if self._source is None:
                from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

                scoring = self._settings.scoring
                self._source = SentenceEmbedders(
                    self._settings.resolved_models_dir, batch=scoring.embedding_batch, device=scoring.device
                )
        return self._source(name)


def stage_functions() -> Mapping[StageKind, StageFunction]:
    """The stages of this service with its embedders. Called once in a worker's child process."""
    return {
        StageKind.SCORE: partial(score, embedders=Embedders(Settings())),
        StageKind.FLOW: flow,
        StageKind.EVALUATE: evaluate,
        StageKind.REPORT: report,
    }


def app(settings: Settings) -> FastAPI:
    """The service's HTTP application."""
    embedders = Embedders(settings)
    return create_app(
        title="CRaFT scoring",
        service="scoring",
        inner=service_access(settings, settings.scoring),
        routers=[router(partial(embedders, settings.scoring.embedder))],
        max_body_bytes=MAX_BODY_BYTES,
    )
