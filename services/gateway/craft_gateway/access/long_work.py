"""The gateway's limits of long work: each kind has turns and threads of its own, so none holds up other requests."""

from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from craft.errors import CraftError
from craft.infra.http.edge import OtherForm
from craft.infra.http.problems import error_response
from craft.infra.http.turns import TurnLimits, Turns
from craft_gateway.access.identity import Identity

LARGE_BODY_BYTES = 2**20
_FETCHES = TurnLimits(at_once=8, per_team=2, waiting_per_team=2, wait_seconds=10.0)
"""A source may be slow for minutes."""
_UPLOADS = TurnLimits(at_once=8, per_team=2, waiting_per_team=4, wait_seconds=30.0)
_CHECKS = TurnLimits(at_once=8, per_team=3, waiting_per_team=16, wait_seconds=30.0)
_RESULTS = TurnLimits(at_once=6, per_team=3, waiting_per_team=32, wait_seconds=30.0)
_LARGE_DOCUMENTS = TurnLimits(at_once=3, per_team=1, waiting_per_team=4, wait_seconds=30.0)
"""To parse such a document takes a second of the processor, during which little else runs in this process."""
_LARGE_FILES = TurnLimits(at_once=32, per_team=6, waiting_per_team=0, wait_seconds=0.0)
"""Such a body takes memory or space on the disk for as long as its sender pleases."""


class LongWork(NamedTuple):
    """The turns of each kind of long work."""

    fetches: Turns
    """Downloads of sources."""
    uploads: Turns
    """Files and rows that the datasets service reads."""
    checks: Turns
    """Checks of jobs whose rows are read, or whose model's weights are hashed, first."""
    results: Turns
    """Large results: reports, comparisons, previews, overlaps, deployments, garbage collections."""
    large_documents: Turns
    """Bodies of JSON of more than a megabyte. While they wait they are not read."""
    large_files: Turns
    """Forms with files of more than a megabyte, which are written to the disk as they come."""


def long_work() -> LongWork:
    """Turns for one gateway."""
    return LongWork(
        fetches=Turns(_FETCHES, work="downloads of sources"),
        uploads=Turns(_UPLOADS, work="uploads"),
        checks=Turns(_CHECKS, work="checks of jobs"),
        results=Turns(_RESULTS, work="reports and comparisons"),
        large_documents=Turns(_LARGE_DOCUMENTS, work="requests with more than a megabyte of JSON"),
        large_files=Turns(_LARGE_FILES, work="uploads of more than a megabyte"),
    )


class LargeBodies:
    """The middleware that lets a team send few large bodies at once. It stands behind the authentication."""

    def __init__(self, app: ASGIApp, *, work: LongWork, other_form: OtherForm) -> None:
        """`other_form` renders an error for paths with a form of their own; see `create_app`."""
        self._app = app
        self._work = work
        self._other_form = other_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        identity: Identity | None = scope.get("state", {}).get("identity")
        if scope["type"] != "http" or identity is None or not _is_large(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        form = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/")
        turns = self._work.large_files if form else self._work.large_documents
        began = False
        try:
            async with turns.turn(team_of(identity, Headers(scope=scope))):
                began = True
                await self._app(scope, receive, send)
        except CraftError as error:
            if began:
                raise
            answer = self._other_form(scope, error) or error_response(
                error, request_id=scope["state"].get("request_id")
            )
            # The body is not read.
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)


def _is_large(headers: Headers) -> bool:
    """Whether the body has, or may have, more than a megabyte."""
    length = headers.get("content-length", "")
    return (length.isdecimal() and int(length) > LARGE_BODY_BYTES) or "transfer-encoding" in headers


def team_of(identity: Identity, headers: Headers) -> str:
    """The team that the request counts for; the actor where its team is not known yet."""
    named = headers.get("craft-team")
    if named is not None and (identity.operator or named in identity.grants):
        return named
    return next(iter(identity.grants)) if len(identity.grants) == 1 else identity.actor
