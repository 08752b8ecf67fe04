"""Garbage collection on demand."""

from typing import Annotated

from fastapi import APIRouter, Query

from craft.contracts.public.retention import ExpiredView, GcView
from craft.errors import RequestInvalid, Unavailable
from craft.infra.http.openapi import documented
from craft_gateway.access.authorisation import operators_only
from craft_gateway.retention.collector import MOST_LISTED, GarbageCollector
from craft_gateway.retention.expiry import Expired


def router(collector: GarbageCollector) -> APIRouter:
    """The routes over these objects."""
    routes = APIRouter(tags=["retention"], dependencies=operators_only())

    @routes.post("/gc", operation_id="collectGarbage", responses=documented(RequestInvalid, Unavailable))
    def collect_garbage(
        dry_run: Annotated[bool, Query(description="Only say what would go.")] = True,  # noqa: FBT002 - a query parameter
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Remove or list at most so many.")] = MOST_LISTED,
    ) -> GcView:
        """Remove what has expired, as the sweep does by itself every hour; by default only a list of it is answered.

        Where `has_more` is true, ask again for the rest.
        """
        sweep = collector.dry_run if dry_run else collector.collect
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
