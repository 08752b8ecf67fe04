"""The gateway's limits of long work: each kind has turns and threads of its own, so none holds up other requests."""

from contextlib import AsyncExitStack
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
_LARGE_DOCUMENTS = TurnLimits(at_once=6, per_team=1, waiting_per_team=4, wait_seconds=30.0)
"""To parse such a document takes a second of the processor, during which little else runs in this process: one of a
team. Of many teams, since a sender may be slow."""
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
    """The middleware that lets a team send few large bodies at once. It stands behind the authentication.

    A body of unknown length takes its turn when a megabyte of it has come. A turn lasts until the answer begins, which
    may be a stream.
    """

    def __init__(self, app: ASGIApp, *, work: LongWork, other_form: OtherForm) -> None:
        """`other_form` renders an error for paths with a form of their own; see `create_app`."""
        self._app = app
        self._work = work
        self._other_form = other_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        identity: Identity | None = scope.get("state", {}).get("identity")
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        length = _length(headers) if headers is not None else None
        if headers is None or identity is None or (length is not None and length <= LARGE_BODY_BYTES):
            await self._app(scope, receive, send)
            return
        form = headers.get("content-type", "").lower().startswith("multipart/")
        turns = self._work.large_files if form else self._work.large_documents
        body = _LargeBody(turns, team_of(identity, headers), receive, send, left=0 if length else LARGE_BODY_BYTES)
        refused = await body.run(self._app, scope)
        if refused is not None:
            answer = self._other_form(scope, refused) or error_response(
                refused, request_id=scope["state"].get("request_id")
            )
            # The rest of the body is not read.
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)


class _LargeBody:
    """A request with a body that is large, or may be: it needs a turn when more than `left` bytes of it come."""

    def __init__(self, turns: Turns, team: str, receive: Receive, send: Send, *, left: int) -> None:
        self._turns = turns
        self._team = team
        self._receive = receive
        self._send = send
        self._left = left
        self._turn = AsyncExitStack()
        self._needs_turn = True
        self._refusal: CraftError | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> CraftError | None:
        """Call the application. Returns the error if the body got no turn: nothing is answered then."""
        async with self._turn:
            try:
                if not self._left:
                    await self._take()
                await app(scope, self._read, self._write)
            except Exception:
                if self._refusal is None:
                    raise
        return self._refusal

    async def _take(self) -> None:
        self._needs_turn = False
        try:
            await self._turn.enter_async_context(self._turns.turn(self._team))
        except CraftError as error:
            self._refusal = error
            raise

    async def _read(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0 and self._needs_turn:
            await self._take()
        return message

    async def _write(self, message: Message) -> None:
        if self._refusal is not None:
            return  # the application's answer to the refusal
        if message["type"] == "http.response.start":
            self._needs_turn = False
            await self._turn.aclose()
        await self._send(message)


def _length(headers: Headers) -> int | None:
    """The length of the body; None if it is not known before the body has come."""
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def team_of(identity: Identity, headers: Headers) -> str:
    """The team that the request counts for; the actor where its team is not known yet."""
    named = headers.get("craft-team")
    if named is not None and (identity.operator or named in identity.grants):
        return named
    return next(iter(identity.grants)) if len(identity.grants) == 1 else identity.actor
