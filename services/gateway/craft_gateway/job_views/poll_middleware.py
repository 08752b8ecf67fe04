"""Answers polls, `GET /craft/jobs/{id}` without parameters, before routing: most requests are polls.

The route of that path answers requests with parameters, and stands in the OpenAPI document.
"""

import re
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from craft.contracts.base import JOB_ID
from craft.errors import CraftError
from craft.infra.http.problems import error_response
from craft_gateway.access.authorisation import JOBS, allowed
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.responses import RETRY_AFTER_SECONDS, ROOT, cached, etag_of, matches
from craft_gateway.job_views.response_cache import JobResponse, JobResponseCache

MAX_CONDITION_LENGTH = 4000
"""Characters of an If-None-Match header."""
_JOB_ID = re.compile(JOB_ID)
_PREFIX = f"{ROOT}/jobs/"


class _Route(NamedTuple):
    """The request's name in metrics and log lines: the same as that of the route."""

    path: str


_ROUTE = _Route("/jobs/{job_id}")


class PollMiddleware:
    """Stands behind `authentication.Authentication`."""

    def __init__(self, app: ASGIApp, *, owners: OwnerLookup, responses: JobResponseCache) -> None:
        self._app = app
        self._owners = owners
        self._responses = responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if not _is_poll(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        try:
            answer = await self._answer(scope, Headers(scope=scope))
        except CraftError as error:
            answer = error_response(error, request_id=scope["state"].get("request_id"))
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, headers: Headers) -> Response:
        job_id = scope["path"].removeprefix(_PREFIX)
        identity = scope["state"]["identity"]
        await allowed(self._owners, JOBS.reading, identity, team=headers.get("craft-team"), path={"job_id": job_id})
        return job_answer(await self._responses.polled(job_id), headers.get("if-none-match"))


def job_answer(body: JobResponse, if_none_match: str | None) -> Response:
    """The job, or that the caller has it already."""
    etag = etag_of(body.tag)
    headers = dict(cached(etag))
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    if not body.ended:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return Response(body.content, media_type="application/json", headers=headers)


def _is_poll(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
        return False
    prefix, job_id = scope["path"][: len(_PREFIX)], scope["path"][len(_PREFIX) :]
    if prefix != _PREFIX or not _JOB_ID.fullmatch(job_id):
        return False
    conditions = [value for name, value in scope["headers"] if name == b"if-none-match"]
    return len(conditions) <= 1 and all(len(value) <= MAX_CONDITION_LENGTH for value in conditions)
