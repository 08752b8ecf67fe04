"""A job's events, as pages or as a live stream, and its log lines."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from craft.contracts.public.jobs import EventList, LogList
from craft.contracts.spec.jobs import PlainText
from craft.errors import NotFound, RequestInvalid, Unauthenticated, Unavailable
from craft.infra.http.openapi import OpenApiResponses, documented
from craft_gateway.access.authentication import Authenticator
from craft_gateway.access.authorisation import JOBS, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.parameters import After, Limit
from craft_gateway.job_views.event_stream import Admitted, EventFeed, stream
from craft_gateway.job_views.reader import JobReader

_STREAM = "text/event-stream"
_MAX_NUMBER_LENGTH = 15
_EVENTS: OpenApiResponses = {
    200: {
        "description": "A page of events; with `Accept: text/event-stream` a stream of them.",
        "content": {
            _STREAM: {
                "schema": {"type": "string"},
                "example": 'id: 7\nevent: job.started\ndata: {"object":"craft.event","seq":7,"type":"job.started"}\n\n',
            }
        },
    },
    204: {"description": "A stream that was resumed after the last event of a finished job: do not reconnect."},
    **documented(NotFound, RequestInvalid),
}


def router(owners: OwnerLookup, reader: JobReader, feed: EventFeed, authenticator: Authenticator) -> APIRouter:
    """The routes over these objects."""
    routes = APIRouter(tags=["events"], dependencies=authorised(owners, JOBS))

    @routes.get("/jobs/{job_id}/events", operation_id="listEvents", response_model=EventList, responses=_EVENTS)
    async def list_events(
        job_id: str,
        request: Request,
        after: After = 0,
        limit: Limit = 100,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[str | None, Header(description="Where a broken stream goes on.")] = None,
    ) -> Response | EventList:
        """A job's events. A stream replays those after `after`, follows, and closes with the job's end.

        It closes within seconds of its key's revocation or expiry, too: a new request then gets a 401.
        """
        if _STREAM not in accept.lower():
            return await run_in_threadpool(reader.event_page, job_id, after=after, limit=limit)
        status, latest = await run_in_threadpool(reader.last_event, job_id)
        seen = max(after, _number(last_event_id))
        if status.terminal and seen >= latest:
            return Response(status_code=204)
        return StreamingResponse(
            stream(
                feed,
                job_id,
                after=min(seen, latest),
                last=latest if status.terminal else None,
                admitted=_admitted(authenticator, request),
            ),
            media_type=_STREAM,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @routes.get("/jobs/{job_id}/logs", operation_id="listLogs", responses=documented(NotFound, RequestInvalid))
    def list_logs(
        job_id: str,
        stage: Annotated[PlainText | None, Query(max_length=150, examples=["tune:craft"])] = None,
        after: After = 0,
        limit: Limit = 100,
    ) -> LogList:
        """Lines that the job's stages printed, of one stage or of all, in order."""
        return reader.logs(job_id, stage=stage, after=after, limit=limit)

    return routes


def _admitted(authenticator: Authenticator, request: Request) -> Admitted:
    """A check that the request's key or token is still valid."""

    async def admitted() -> bool:
        try:
            await authenticator.identity(request.headers)
        except Unauthenticated:
            return False
        except Unavailable:
            # The database does not answer: it sends no events either, and is asked again.
            return True
        return True

    return admitted


def _number(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= _MAX_NUMBER_LENGTH):
        raise RequestInvalid("Last-Event-ID is the number of an event.", param="Last-Event-ID")
    return int(last_event_id)
