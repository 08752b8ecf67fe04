"""The service's own REST calls; each parses, calls one function and returns its result."""

from typing import Literal

from fastapi import APIRouter

from craft.contracts.services.training import Recipes, TrainingEstimate, TrainingEstimateRequest
from craft.errors import ModelNotFound, ModelRejected
from craft.infra.http.openapi import documented
from craft.infra.models.folders import ModelFolders
from craft.infra.models.shape import read_shape
from craft_training.estimates import estimate
from craft_training.recipes import RECIPES
from craft_training.tuning.throughput import Throughput


def router(
    folders: ModelFolders, throughput: Throughput, *, device: Literal["cpu", "cuda"], weight_bytes: int
) -> APIRouter:
    """The routes over one models folder."""
    routes = APIRouter(prefix="/v1", tags=["training"])

    @routes.get("/recipes", operation_id="listRecipes")
    def list_recipes() -> Recipes:
        """List named training parameters that are known to work."""
        return Recipes(data=list(RECIPES))

    @routes.post("/estimate", operation_id="estimateTraining", responses=documented(ModelNotFound, ModelRejected))
    def estimate_training(request: TrainingEstimateRequest) -> TrainingEstimate:
        """Estimate the steps, seconds and memory that a training run takes on this installation."""
        folder = folders.find(request.model.id, request.model.revision)
        return estimate(
            request,
            read_shape(folder.path),
            device=device,
            weight_bytes=weight_bytes,
            measured_flops=throughput.read(),
        )

    return routes
