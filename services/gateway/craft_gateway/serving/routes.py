"""Routes to deploy an adapter, which gives it a model name under /v1, and to withdraw it."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from craft.contracts.public.serving import AdapterDeployment, DeployRequest
from craft.core.strategies import Strategy
from craft.errors import ArtifactDamaged, Conflict, DiskFull, ModelRejected, NotFound, RequestInvalid
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.job_views.reader import JobReader
from craft_gateway.serving.deployments import Deployed, Deployments, deployment_view

_EXAMPLES = {
    "only": {"summary": "The job has one adapter", "value": {}},
    "one of several": {"summary": "The job has several", "value": {"strategy": "craft"}},
}


def router(owners: OwnerLookup, deployments: Deployments, reader: JobReader, results: Turns) -> APIRouter:
    """Build the routes."""
    routes = APIRouter(
        tags=["serving"],
        route_class=TextBodyRoute,
        dependencies=authorised(owners, JOBS),
    )

    @routes.post(
        "/jobs/{job_id}/deploy",
        operation_id="deployAdapter",
        status_code=201,
        response_model=AdapterDeployment,
        responses={
            200: {"model": AdapterDeployment, "description": "It was deployed before."},
            **documented(NotFound, Conflict, ArtifactDamaged, RequestInvalid, ModelRejected, DiskFull),
        },
    )
    async def deploy_adapter(
        job_id: str,
        caller: CallerOf,
        response: Response,
        body: Annotated[DeployRequest | None, Body(openapi_examples=_EXAMPLES)] = None,
    ) -> AdapterDeployment:
        """Serve a finished adapter: its `model` is a name for `/v1/chat/completions` until the adapter is withdrawn.

        An adapter can be deployed as soon as its strategy is packaged, before the whole job has ended.
        """

        def done() -> Deployed:
            return deployments.deploy(job_id, reader.chosen_strategy(job_id, body.strategy if body else None))

        deployed = await results.run(caller.team, done)
        view = deployment_view(deployed.row)
        response.status_code = 200 if deployed.repeated else 201
        response.headers["Location"] = view.links.model
        return view

    @routes.delete(
        "/jobs/{job_id}/deploy",
        operation_id="withdrawAdapter",
        status_code=204,
        responses=documented(NotFound, RequestInvalid),
    )
    def withdraw_adapter(
        job_id: str,
        strategy: Annotated[Strategy | None, Query(description="Needed where the job has several.")] = None,
    ) -> None:
        """Withdraw an adapter, if it is deployed. A later deployment gets a new name."""
        deployments.withdraw(job_id, strategy or reader.only_strategy(job_id))

    return routes
