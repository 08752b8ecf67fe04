"""Routes to publish a finished adapter, and to list its publications."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from craft.contracts.public.publishing import PublicationList, PublicationView, PublishRequest
from craft.errors import Conflict, Forbidden, NotFound, RequestInvalid
from craft.infra.http.openapi import documented
from craft_gateway.access.authorisation import JOBS, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.http.responses import RETRY_AFTER_SECONDS, ROOT
from craft_gateway.job_views.reader import JobReader
from craft_gateway.publishing.publications import Publications

PUBLISH_EXAMPLES = {
    "mlflow": {
        "summary": "The next version of a registered model",
        "value": {"target": {"kind": "mlflow", "model_name": "support-qa"}},
    },
    "hub": {
        "summary": "A private repository; the job has several adapters",
        "value": {
            "target": {"kind": "hub", "repo": "acme/support-qa", "commit_message": "After the July tickets"},
            "strategy": "craft",
        },
    },
}


def router(owners: OwnerLookup, publications: Publications, reader: JobReader) -> APIRouter:
    """Build the routes."""
    routes = APIRouter(
        prefix="/jobs/{job_id}",
        tags=["publishing"],
        route_class=TextBodyRoute,
        dependencies=authorised(owners, JOBS),
    )

    @routes.post(
        "/publish",
        operation_id="publishAdapter",
        summary="Publish an adapter to MLflow or a hub",
        status_code=202,
        response_model=PublicationView,
        responses={
            200: {"model": PublicationView, "description": "An earlier request was the same, and has not failed."},
            **documented(NotFound, Conflict, Forbidden, RequestInvalid),
        },
    )
    def publish_adapter(
        job_id: str,
        response: Response,
        body: Annotated[PublishRequest, Body(openapi_examples=PUBLISH_EXAMPLES)],
    ) -> PublicationView:
        """Publish a finished adapter with its card, parameters and metrics, soon after the answer.

        An adapter can be published as soon as its strategy is packaged. A repeated request changes nothing, except
        that it starts a failed publication again.
        """
        strategy = reader.chosen_strategy(job_id, body.strategy)
        requested = publications.request(job_id, strategy, body.target)
        response.status_code = 200 if requested.repeated else 202
        response.headers["Location"] = f"{ROOT}/jobs/{job_id}/publications"
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
        return requested.view

    @routes.get(
        "/publications",
        operation_id="listPublications",
        summary="Where a job's adapters were published",
        responses=documented(NotFound),
    )
    def list_publications(job_id: str) -> PublicationList:
        """List every publication of the job's adapters with its status."""
        views = list(publications.listed(job_id))
        return PublicationList(data=views, last_id=views[-1].id if views else None)

    return routes
