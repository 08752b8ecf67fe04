"""How long things are kept: pins on jobs, and the sweep on demand."""

from typing import Annotated

from fastapi import APIRouter, Query

from craft.contracts.gc import ExpiredView, GcView
from craft.contracts.views import JobView
from craft.errors import NotFound, RequestInvalid, Unavailable
from craft.infra.http import documented
from craft_gateway.authorisation import JOBS, guarded, operators_only
from craft_gateway.retention import MOST_LISTED
from craft_gateway.retention_expired import Expired
from craft_gateway.routes_gateway import Gateway


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(tags=["retention"], dependencies=guarded(gateway.owners, JOBS))

    @routes.put("/jobs/{job_id}/pin", operation_id="pinJob", responses=documented(NotFound, Unavailable))
    def pin_job(job_id: str) -> JobView:
        """Keep all that the job made or took over, without limit of time, until it is unpinned."""
        gateway.reader.last_event(job_id)  # raises NotFound before a malformed id goes any further
        gateway.pins.pin(job_id)
        return gateway.reader.job(job_id)

    @routes.delete("/jobs/{job_id}/pin", operation_id="unpinJob", responses=documented(NotFound, Unavailable))
    def unpin_job(job_id: str) -> JobView:
        """Let what the job made expire like that of any other job. What is overdue goes with the next sweep."""
        gateway.reader.last_event(job_id)
        gateway.pins.unpin(job_id)
        return gateway.reader.job(job_id)

    whole = APIRouter()
    whole.include_router(routes)
    whole.include_router(_sweeping(gateway))
    return whole


def _sweeping(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["retention"], dependencies=operators_only())

    @routes.post("/gc", operation_id="collectGarbage", responses=documented(RequestInvalid, Unavailable))
    def collect_garbage(
        dry_run: Annotated[bool, Query(description="Only say what would go.")] = True,  # noqa: FBT002 - a query parameter
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Remove or list at most so many.")] = MOST_LISTED,
    ) -> GcView:
        """Remove what has expired, as the sweep does by itself every hour; by default only a list of it is answered.

        Where `has_more` is true, ask again for the rest.
        """
        sweep = gateway.retention.dry_run if dry_run else gateway.retention.collect
        found, more = sweep(limit=limit)
        return GcView(
            dry_run=dry_run,
            data=[_view(expired) for expired in found],
            total=len(found),
            total_bytes=sum(expired.bytes for expired in found),
            has_more=more,
        )

    return routes


def _view(expired: Expired) -> ExpiredView:
    return ExpiredView(
        retention_class=expired.retention_class,
        key=expired.key,
        kind=expired.kind,
        bytes=expired.bytes,
        last_used_at=expired.last_used_at,
        expires_at=expired.expires_at,
    )
