"""Jobs: submit, validate, list, look at, wait for."""

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator

from craft.contracts.base import JOB_ID
from craft.contracts.job import JobSpec, JobStatus
from craft.contracts.views import AttemptList, JobList, JobView, QueueView, StageList, ValidationView
from craft.errors import (
    ContextTooLong,
    DatasetInvalid,
    IdempotencyConflict,
    ModelNotFound,
    ModelRejected,
    NotFound,
    PayloadTooLarge,
    RehearsalTooShort,
    RequestInvalid,
    Unavailable,
)
from craft.infra.http import documented
from craft.infra.telemetry import current_traceparent
from craft_gateway.authorisation import JOBS, CallerOf, guarded
from craft_gateway.conditional import UNCHANGED, etag_of, matches
from craft_gateway.job_bodies import JobBody
from craft_gateway.polling import LONGEST_CONDITION, job_answer
from craft_gateway.routes_body import TextBodyRoute
from craft_gateway.routes_examples import JOB_EXAMPLES
from craft_gateway.routes_gateway import (
    Gateway,
    IdempotencyKey,
    Limit,
    point_to,
)
from craft_gateway.submission import Asked
from craft_gateway.transitions import Origin
from craft_gateway.views_reading import JobFilter

_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_REFUSALS = (
    RequestInvalid,
    DatasetInvalid,
    ModelNotFound,
    ModelRejected,
    ContextTooLong,
    RehearsalTooShort,
    PayloadTooLarge,
    Unavailable,
)


def _written(given: str) -> str:
    """As the document says; pydantic would take bare numbers too, as seconds or, if large, as milliseconds."""
    if not _RFC_3339.fullmatch(given):
        raise ValueError("write a time like 2025-01-31T00:00:00Z")
    return given


_Moment = Annotated[AwareDatetime, BeforeValidator(_written)]
_SpecBody = Annotated[JobSpec, Body(openapi_examples=JOB_EXAMPLES)]


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
                labels[key] = value
        return labels


_LABELS = _Labels()


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(
        tags=["jobs"],
        route_class=TextBodyRoute,
        dependencies=guarded(gateway.owners, JOBS),
    )
    _submitting(routes, gateway)
    _looking(routes, gateway)
    return routes


def _submitting(routes: APIRouter, gateway: Gateway) -> None:
    @routes.post(
        "/jobs",
        operation_id="createJob",
        status_code=202,
        response_model=JobView,
        responses=documented(*_REFUSALS, IdempotencyConflict),
    )
    async def create_job(
        spec: _SpecBody, response: Response, caller: CallerOf, idempotency_key: IdempotencyKey = None
    ) -> JobView:
        """Queue a job. Everything that can be known to be wrong is answered now; nothing is queued then."""
        origin = Origin(team=caller.team, actor=caller.actor, traceparent=current_traceparent())
        job = await gateway.line.submit(Asked(spec, idempotency_key, origin))
        point_to(job, response)
        return job

    @routes.post("/jobs/validate", operation_id="validateJob", responses=documented(*_REFUSALS))
    def validate_job(spec: _SpecBody, caller: CallerOf) -> ValidationView:
        """A dry run of the same body: every default filled in, the stages it would have, and what they cost at most."""
        return gateway.submission.validate(spec, team=caller.team)


def _looking(routes: APIRouter, gateway: Gateway) -> None:
    @routes.get("/jobs", operation_id="listJobs", responses=documented(RequestInvalid))
    def list_jobs(
        labels: Annotated[dict[str, str], Depends(_LABELS)],
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=JOB_ID, description="The `last_id` of the page before.")] = None,
        status: Annotated[list[JobStatus] | None, Query(description="Any of these.")] = None,
        created_after: Annotated[_Moment | None, Query(examples=["2025-01-31T00:00:00Z"])] = None,
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
        return gateway.reader.jobs(wanted)

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
        if_none_match: Annotated[str | None, Header(max_length=LONGEST_CONDITION)] = None,
    ) -> Response:
        """One job. With `wait`, answers when it differs from `If-None-Match`, or without that header, when it ended."""
        body = await _settled(gateway, job_id, if_none_match, wait_seconds=wait)
        if wait:
            # The key may have been revoked, or have run out, in the meantime.
            await gateway.authenticator.identity(request.headers)
        return job_answer(body, if_none_match)

    @routes.get("/jobs/{job_id}/stages", operation_id="listStages", responses=documented(NotFound))
    def list_stages(job_id: str) -> StageList:
        """A job's stages in their planned order."""
        return gateway.reader.stages(job_id)

    @routes.get("/jobs/{job_id}/attempts", operation_id="listAttempts", responses=documented(NotFound))
    def list_attempts(job_id: str) -> AttemptList:
        """Every claim of the job's stages: which worker had it, for how long, and how it ended."""
        return gateway.reader.attempts(job_id)

    @routes.get("/queue", operation_id="getQueue")
    def get_queue(caller: CallerOf) -> QueueView:
        """The team's unfinished jobs, why each waits, and what is held of the devices that all teams share.

        Places in the line count everybody's jobs. An operator sees those too.
        """
        return gateway.reader.queue(team=None if caller.operator else caller.team)


async def _settled(gateway: Gateway, job_id: str, if_none_match: str | None, *, wait_seconds: float) -> JobBody:
    """The job once it is what the caller waits for, or as it is when time is up."""

    def waiting(body: JobBody) -> bool:
        return not body.ended if if_none_match is None else matches(if_none_match, etag_of(body.tag))

    if not wait_seconds:
        return await gateway.bodies.polled(job_id)
    clock = asyncio.get_running_loop().time
    until = clock() + wait_seconds
    # Watching begins before reading, so that a change in between is not missed.
    with gateway.feed.watch(job_id) as news:
        while True:
            found = await gateway.bodies.polled(job_id)
            left = until - clock()
            over = left <= 0 or gateway.feed.closed or found.ended
            if over or not waiting(found):
                return found
            await news.take(left)
