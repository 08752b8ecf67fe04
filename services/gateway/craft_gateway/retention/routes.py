"""Garbage collection on demand."""

from typing import Annotated

from fastapi import APIRouter, Query

from craft.contracts.public.retention import ExpiredView, GcView
from craft.errors import RequestInvalid, Unavailable
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import CallerOf, operators_only
from craft_gateway.retention.collector import MAX_LISTED, GarbageCollector
from craft_gateway.retention.expiry import Expired


def router(collector: GarbageCollector, results: Turns) -> APIRouter:
    """Build the route by which operators list or remove expired artifacts."""
    routes = APIRouter(tags=["retention"], dependencies=operators_only())

    @routes.post("/gc", operation_id="collectGarbage", responses=documented(RequestInvalid, Unavailable))
    async def collect_garbage(
        caller: CallerOf,
        dry_run: Annotated[bool, Query(description="Only list the items; remove nothing.")] = True,  # noqa: FBT002 - a query parameter
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Remove or list at most so many.")] = MAX_LISTED,
    ) -> GcView:
        """Remove expired artifacts, as the garbage collector does every hour; by default, only list them.

        Where `has_more` is true, repeat the call for the rest.
        """
        run = await results.run(caller.team, collector.dry_run if dry_run else collector.collect, limit=limit)
        return GcView(
            dry_run=dry_run,
            data=[_view(expired) for expired in run.expired],
            total=len(run.expired),
            total_bytes=sum(expired.bytes for expired in run.expired),
            has_more=run.more,
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
