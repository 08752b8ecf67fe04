"""Jobs side by side."""

from typing import Annotated

from fastapi import APIRouter, Query

from craft.contracts.public.comparison import JobComparison
from craft.errors import NotFound, RequestInvalid
from craft.infra.http.openapi import documented
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.comparison.comparison import Comparisons

_TWO = "cjob_01jgywz3x4v5q6r7s8t9vawbxc,cjob_01jgywz3x4v5q6r7s8t9vawbxd"


def router(owners: OwnerLookup, comparisons: Comparisons) -> APIRouter:
    """The routes over these objects. They come before those of `/jobs/{job_id}`."""
    routes = APIRouter(tags=["jobs"], dependencies=authorised(owners, JOBS))

    @routes.get(
        "/jobs/compare",
        operation_id="compareJobs",
        summary="Compare jobs",
        responses=documented(NotFound, RequestInvalid),
    )
    def compare_jobs(
        ids: Annotated[str, Query(max_length=1000, description="Two to ten jobs, with commas.", examples=[_TWO])],
        caller: CallerOf,
    ) -> JobComparison:
        """What was asked differently, what came out, and where the questions are the same, paired differences.

        The later named job is measured against the earlier: a positive THS difference speaks for the later one.
        """
        named = [part.strip() for part in ids.split(",") if part.strip()]
        return comparisons.compare(named, team=None if caller.operator else caller.team)

    return routes
