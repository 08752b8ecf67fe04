"""Everything that changes jobs: submit, validate, cancel, pause, resume, retry, pin."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from craft.contracts.public.jobs import JobView, ValidationView
from craft.contracts.spec.jobs import JobSpec, RetryRequest
from craft.errors import (
    Conflict,
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
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft.infra.observe.telemetry import current_traceparent
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.http.parameters import IdempotencyKey
from craft_gateway.http.responses import RETRY_AFTER_SECONDS
from craft_gateway.job_views.reader import JobReader
from craft_gateway.jobs.batching import BatchedSubmissions
from craft_gateway.jobs.examples import JOB_EXAMPLES
from craft_gateway.jobs.retry import Retries
from craft_gateway.jobs.submission import Submission, Submissions
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import Origin

_SUBMISSION_ERRORS = (
    RequestInvalid,
    DatasetInvalid,
    ModelNotFound,
    ModelRejected,
    ContextTooLong,
    RehearsalTooShort,
    PayloadTooLarge,
    Unavailable,
)
_SpecBody = Annotated[JobSpec, Body(openapi_examples=JOB_EXAMPLES)]


def router(
    owners: OwnerLookup,
    submissions: Submissions,
    retries: Retries,
    batched: BatchedSubmissions,
    control: JobControl,
    reader: JobReader,
    checks: Turns,
) -> APIRouter:
    """The routes over these objects."""
    allowed = authorised(owners, JOBS)
    routes = APIRouter(tags=["jobs"], route_class=TextBodyRoute, dependencies=allowed)
    _submitting(routes, submissions, batched, checks)
    _control(routes, control, reader)
    _retries(routes, retries, reader, checks)
    pins = APIRouter(tags=["retention"], dependencies=allowed)
    _pins(pins, control, reader)
    whole = APIRouter()
    whole.include_router(routes)
    whole.include_router(pins)
    return whole


def _submitting(routes: APIRouter, submissions: Submissions, batched: BatchedSubmissions, checks: Turns) -> None:
    @routes.post(
        "/jobs",
        operation_id="createJob",
        status_code=202,
        response_model=JobView,
        responses=documented(*_SUBMISSION_ERRORS, IdempotencyConflict),
    )
    async def create_job(
        spec: _SpecBody, response: Response, caller: CallerOf, idempotency_key: IdempotencyKey = None
    ) -> JobView:
        """Queue a job. What can be known to be wrong is refused in this response, and nothing is queued."""
        origin = Origin(team=caller.team, actor=caller.actor, traceparent=current_traceparent())
        job = await batched.submit(Submission(spec, idempotency_key, origin))
        point_to(job, response)
        return job

    @routes.post("/jobs/validate", operation_id="validateJob", responses=documented(*_SUBMISSION_ERRORS))
    async def validate_job(spec: _SpecBody, caller: CallerOf) -> ValidationView:
        """A dry run of the same body: every default filled in, the stages it would have, and what they cost at most."""
        return await checks.run(caller.team, submissions.validate, spec, team=caller.team)


def _control(routes: APIRouter, control: JobControl, reader: JobReader) -> None:
    @routes.post("/jobs/{job_id}/cancel", operation_id="cancelJob", responses=documented(NotFound))
    def cancel_job(job_id: str) -> JobView:
        """End a job. A running stage stops within seconds; a job that has ended already stays as it is."""
        control.cancel(job_id)
        return reader.job(job_id)

    @routes.post("/jobs/{job_id}/pause", operation_id="pauseJob", responses=documented(NotFound, Conflict))
    def pause_job(job_id: str) -> JobView:
        """Free the workers for others: a running stage stops within seconds and keeps what it can go on from."""
        control.pause(job_id)
        return reader.job(job_id)

    @routes.post("/jobs/{job_id}/resume", operation_id="resumeJob", responses=documented(NotFound, Conflict))
    def resume_job(job_id: str) -> JobView:
        """Go on with a paused job where it stopped. One that is not paused stays as it is."""
        control.resume(job_id)
        return reader.job(job_id)


def _retries(routes: APIRouter, retries: Retries, reader: JobReader, checks: Turns) -> None:
    @routes.post(
        "/jobs/{job_id}/retry",
        operation_id="retryJob",
        status_code=202,
        response_model=JobView,
        responses=documented(NotFound, Conflict, RequestInvalid, IdempotencyConflict),
    )
    async def retry_job(
        job_id: str,
        caller: CallerOf,
        response: Response,
        request: RetryRequest | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> JobView:
        """A new job that does an ended one again. What was finished is used again; `from_stage` computes it anew."""
        traceparent = current_traceparent()

        def retried() -> JobView:
            created = retries.retry(
                job_id,
                request or RetryRequest(),
                idempotency_key=idempotency_key,
                actor=caller.actor,
                traceparent=traceparent,
            )
            [view] = reader.views_of([created.row])
            return view

        job = await checks.run(caller.team, retried)
        point_to(job, response)
        return job


def _pins(routes: APIRouter, control: JobControl, reader: JobReader) -> None:
    @routes.put("/jobs/{job_id}/pin", operation_id="pinJob", responses=documented(NotFound, Unavailable))
    def pin_job(job_id: str) -> JobView:
        """Keep all that the job made or took over, without limit of time, until it is unpinned."""
        control.pin(job_id)
        return reader.job(job_id)

    @routes.delete("/jobs/{job_id}/pin", operation_id="unpinJob", responses=documented(NotFound, Unavailable))
    def unpin_job(job_id: str) -> JobView:
        """Let the job's artifacts expire like any other job's; the next garbage collection removes overdue ones."""
        control.unpin(job_id)
        return reader.job(job_id)


def point_to(job: JobView, response: Response) -> None:
    """Say in the answer to a request that made a job where to ask about it, and how soon."""
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
