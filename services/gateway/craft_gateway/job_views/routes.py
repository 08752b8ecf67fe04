"""Jobs as they are seen: list, look at, wait for; their stages and attempts; the queue."""

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from craft.contracts.base import JOB_ID
from craft.contracts.public.jobs import AttemptList, JobList, JobView, QueueView, StageList
from craft.contracts.spec.jobs import JobStatus
from craft.errors import (
    NotFound,
    RequestInvalid,
)
from craft.infra.http.openapi import documented
from craft_gateway.access.authentication import Authenticator
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.http.parameters import Limit, Time, plain_text
from craft_gateway.http.responses import UNCHANGED, etag_of, matches
from craft_gateway.job_views.event_stream import EventFeed
from craft_gateway.job_views.poll_middleware import MAX_CONDITION_LENGTH, job_answer
from craft_gateway.job_views.reader import JobFilter, JobReader
from craft_gateway.job_views.response_cache import JobResponse, JobResponseCache

_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


class _Labels:
    """The labels to filter by: each a query parameter of its own."""

    query_prefix = "label."

    async def __call__(self, request: Request) -> dict[str, str]:
        """Raises RequestInvalid."""
        labels = {}
        for name, value in request.query_params.multi_items():
            if name.startswith(self.query_prefix):
                key = name.removeprefix(self.query_prefix)
                if not _LABEL_NAME.fullmatch(key):
                    raise RequestInvalid(
                        "A label to filter by has letters, digits and . _ / - in its name.",
                        hint="Write ?label.NAME=VALUE.",
                        param=name[:100],
                    )
                labels[key] = plain_text(value, param=name)
        return labels


_LABELS = _Labels()


def router(
    owners: OwnerLookup,
    reader: JobReader,
    responses: JobResponseCache,
    feed: EventFeed,
    authenticator: Authenticator,
) -> APIRouter:
    """The routes over these objects."""
    routes = APIRouter(
        tags=["jobs"],
        route_class=TextBodyRoute,
        dependencies=authorised(owners, JOBS),
    )

    @routes.get("/jobs", operation_id="listJobs", responses=documented(RequestInvalid))
    def list_jobs(
        labels: Annotated[dict[str, str], Depends(_LABELS)],
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=JOB_ID, description="The `last_id` of the page before.")] = None,
        status: Annotated[list[JobStatus] | None, Query(max_length=len(JobStatus), description="Any of these.")] = None,
        created_after: Annotated[Time | None, Query(examples=["2025-01-31T00:00:00Z"])] = None,
    ) -> JobList:
        """Jobs, newest first. `?label.team=search` keeps those with that label; several labels must all hold."""
        wanted = JobFilter(
            team=caller.team,
            limit=limit,
            after=after,
            statuses=tuple(status or ()),
            created_after=created_after,
            labels=labels,
        )
        return reader.jobs(wanted)

    @routes.get(
        "/jobs/{job_id}",
        operation_id="getJob",
        response_model=JobView,
        responses={**UNCHANGED, **documented(NotFound)},
    )
    async def get_job(
        job_id: str,
        request: Request,
        wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for news; see below.")] = 0.0,
        if_none_match: Annotated[str | None, Header(max_length=MAX_CONDITION_LENGTH)] = None,
    ) -> Response:
        """One job. With `wait`, answers when it differs from `If-None-Match`, or without that header, when it ended."""
        body = await _settled(responses, feed, job_id, if_none_match, wait_seconds=wait)
        if wait:
            # The key may have been revoked, or have run out, in the meantime.
            await authenticator.identity(request.headers)
        return job_answer(body, if_none_match)

    @routes.get("/jobs/{job_id}/stages", operation_id="listStages", responses=documented(NotFound))
    def list_stages(job_id: str) -> StageList:
        """A job's stages in their planned order."""
        return reader.stages(job_id)

    @routes.get("/jobs/{job_id}/attempts", operation_id="listAttempts", responses=documented(NotFound))
    def list_attempts(job_id: str) -> AttemptList:
        """Every claim of the job's stages: which worker had it, for how long, and how it ended."""
        return reader.attempts(job_id)

    @routes.get("/queue", operation_id="getQueue")
    def get_queue(caller: CallerOf) -> QueueView:
        """The team's unfinished jobs, why each waits, and what is held of the devices that all teams share.

        Places in the line count everybody's jobs. An operator sees those too.
        """
        return reader.queue(team=None if caller.operator else caller.team)

    return routes


async def _settled(
    responses: JobResponseCache, feed: EventFeed, job_id: str, if_none_match: str | None, *, wait_seconds: float
) -> JobResponse:
    """The job once it is what the caller waits for, or as it is when time is up."""

    def waiting(body: JobResponse) -> bool:
        return not body.ended if if_none_match is None else matches(if_none_match, etag_of(body.tag))

    if not wait_seconds:
        return await responses.polled(job_id)
    clock = asyncio.get_running_loop().time
    until = clock() + wait_seconds
    # Watching begins before reading, so that a change in between is not missed.
    with feed.watch(job_id) as news:
        while True:
            found = await responses.polled(job_id)
            left = until - clock()
            over = left <= 0 or feed.closed or found.ended
            if over or not waiting(found):
                return found
            await news.take(left)
