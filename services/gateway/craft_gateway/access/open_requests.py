"""Bounds the requests of a key and of a team that are under way: streams, waiting polls and downloads last long."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from craft.errors import CraftError, RateLimited
from craft.infra.http.edge import OtherForm
from craft.infra.http.problems import error_response
from craft_gateway.access.identity import Identity
from craft_gateway.access.long_work import team_of


class OpenRequests:
    """Counts requests by key and by team. Used on one event loop."""

    def __init__(self, *, per_key: int, per_team: int) -> None:
        self._per_key = per_key
        self._per_team = per_team
        self._of_key = Counter[str]()
        self._of_team = Counter[str]()

    @contextmanager
    def held(self, *, key: str, team: str) -> Iterator[None]:
        """Count a request for as long as the block lasts. Raises RateLimited."""
        if self._of_key[key] >= self._per_key:
            raise _too_many(f"This key has {self._per_key} requests under way.")
        if self._of_team[team] >= self._per_team:
            raise _too_many(f"Your team has {self._per_team} requests under way.")
        self._of_key[key] += 1
        self._of_team[team] += 1
        try:
            yield
        finally:
            for counter, name in ((self._of_key, key), (self._of_team, team)):
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]


class BoundedRequests:
    """The middleware; operators have no bound. It stands behind the authentication."""

    def __init__(self, app: ASGIApp, *, requests: OpenRequests, other_form: OtherForm) -> None:
        """`other_form` renders an error for paths with a form of their own; see `create_app`."""
        self._app = app
        self._requests = requests
        self._other_form = other_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        identity: Identity | None = scope.get("state", {}).get("identity")
        if scope["type"] != "http" or identity is None or identity.operator:
            await self._app(scope, receive, send)
            return
        with ExitStack() as stack:
            try:
                team = team_of(identity, Headers(scope=scope))
                stack.enter_context(self._requests.held(key=identity.actor, team=team))
            except CraftError as error:
                request_id = scope["state"].get("request_id")
                answer = self._other_form(scope, error) or error_response(error, request_id=request_id)
                await answer(scope, receive, send)
                return
            await self._app(scope, receive, send)


def _too_many(message: str) -> RateLimited:
    return RateLimited(
        message,
        hint="Close event streams that nobody reads, and end waiting polls; one stream of a job serves many readers.",
        headers={"Retry-After": "10"},
    )
