"""What may be asked of a job that exists: cancel, pause, resume, retry."""

from fastapi import APIRouter, Response

from craft.contracts.job import RetryRequest
from craft.contracts.views import JobView
from craft.errors import Conflict, IdempotencyConflict, NotFound, RequestInvalid
from craft.infra.http import documented
from craft.infra.telemetry import current_traceparent
from craft_gateway.authorisation import JOBS, CallerOf, guarded
from craft_gateway.routes_body import TextBodyRoute
from craft_gateway.routes_gateway import Gateway, IdempotencyKey, point_to


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(
        prefix="/jobs/{job_id}",
        tags=["jobs"],
        route_class=TextBodyRoute,
        dependencies=guarded(gateway.owners, JOBS),
    )

    @routes.post("/cancel", operation_id="cancelJob", responses=documented(NotFound))
    def cancel_job(job_id: str) -> JobView:
        """End a job. A running stage stops within seconds; a job that has ended already stays as it is."""
        gateway.reader.row(job_id)  # raises NotFound before a malformed id goes any further
        gateway.transitions.cancel(job_id)
        return gateway.reader.job(job_id)

    @routes.post("/pause", operation_id="pauseJob", responses=documented(NotFound, Conflict))
    def pause_job(job_id: str) -> JobView:
        """Free the workers for others: a running stage stops within seconds and keeps what it can go on from."""
        gateway.reader.row(job_id)
        gateway.transitions.pause(job_id)
        return gateway.reader.job(job_id)

    @routes.post("/resume", operation_id="resumeJob", responses=documented(NotFound, Conflict))
    def resume_job(job_id: str) -> JobView:
        """Go on with a paused job where it stopped. One that is not paused stays as it is."""
        gateway.reader.row(job_id)
        gateway.transitions.resume(job_id)
        return gateway.reader.job(job_id)

    @routes.post(
        "/retry",
        operation_id="retryJob",
        status_code=202,
        response_model=JobView,
        responses=documented(NotFound, Conflict, RequestInvalid, IdempotencyConflict),
    )
    def retry_job(
        job_id: str,
        caller: CallerOf,
        response: Response,
        request: RetryRequest | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> JobView:
        """A new job that does an ended one again. What was finished is used again; `from_stage` computes it anew."""
        created = gateway.submission.retry(
            job_id,
            request or RetryRequest(),
            idempotency_key=idempotency_key,
            actor=caller.actor,
            traceparent=current_traceparent(),
        )
        [job] = gateway.reader.shown([created.row])
        point_to(job, response)
        return job

    return routes
