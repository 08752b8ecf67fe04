"""Route that compares jobs."""

from typing import Annotated

from fastapi import APIRouter, Query

from craft.contracts.public.comparison import JobComparison
from craft.contracts.spec.jobs import PlainText
from craft.errors import NotFound, RequestInvalid
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.comparison.comparison import Comparisons

_TWO = "cjob_01jgywz3x4v5q6r7s8t9vawbxc,cjob_01jgywz3x4v5q6r7s8t9vawbxd"


def router(owners: OwnerLookup, comparisons: Comparisons, results: Turns) -> APIRouter:
    """Build the route. It must come before those of `/jobs/{job_id}`."""
    routes = APIRouter(tags=["jobs"], dependencies=authorised(owners, JOBS))

    @routes.get(
        "/jobs/compare",
        operation_id="compareJobs",
        summary="Compare jobs",
        responses=documented(NotFound, RequestInvalid),
    )
    async def compare_jobs(
        ids: Annotated[PlainText, Query(max_length=1000, description="Two to ten jobs, with commas.", examples=[_TWO])],
        caller: CallerOf,
    ) -> JobComparison:
        """Return differing parameters and metrics, and paired differences where the jobs' questions are the same.

        Each job is compared with those named before it: a positive THS difference is in favour of the later one.
        """
        job_ids = [part.strip() for part in ids.split(",") if part.strip()]
        team = None if caller.operator else caller.team
        return await results.run(caller.team, comparisons.compare, job_ids, team=team)

    return routes
