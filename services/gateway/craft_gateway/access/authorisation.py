"""What a caller may do: a scope for each kind of route, and nothing of another team: that is not found."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request, params
from fastapi.security import HTTPBearer

from craft.contracts.base import NAME
from craft.contracts.public.accounts import Scope
from craft.errors import Forbidden, NotFound, RateLimited, Unauthenticated
from craft.infra.http.openapi import documented
from craft_gateway.access.identity import Caller, Identity
from craft_gateway.access.owners import OwnerLookup

_SCHEME = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key (`craft_sk_…`) or a token of the company's identity provider. A local installation asks "
    "for none on its own machine.",
)
_READING = frozenset({"GET", "HEAD"})
REFUSALS = documented(Unauthenticated, Forbidden, NotFound, RateLimited)
TeamHeader = Annotated[
    str | None,
    Header(
        alias="Craft-Team",
        description="Which of the caller's teams; needed where there are several.",
        # Looked up, so that there is no other check of its form.
        json_schema_extra={"pattern": NAME},
    ),
]


class RouteScopes(NamedTuple):
    """What a kind of route asks for: of those that look, and of those that change something. None: any valid key."""

    reading: Scope | None
    writing: Scope | None


NO_SCOPE = RouteScopes(None, None)
JOBS = RouteScopes(Scope.JOBS_READ, Scope.JOBS_WRITE)
DATASETS = RouteScopes(Scope.DATASETS_READ, Scope.DATASETS_WRITE)
MODELS = RouteScopes(Scope.MODELS_READ, Scope.MODELS_USE)
WEBHOOKS = RouteScopes(Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE)
TEAM = RouteScopes(Scope.TEAM_READ, Scope.TEAM_WRITE)


async def allowed(
    owners: OwnerLookup, scope: Scope | None, identity: Identity, *, team: str | None, path: Mapping[str, Any]
) -> Caller:
    """The caller in the team that the request names, who has the scope and owns the path's ids.

    Raises Forbidden, NotFound, RequestInvalid.
    """
    caller = identity.in_team(team)
    if scope is not None:
        caller.require(scope)
    await owners.check_team(caller.team)
    await owners.check(caller, path)
    return caller


def authorised(owners: OwnerLookup, access: RouteScopes) -> Sequence[params.Depends]:
    """The dependencies of a router: who calls in which team, whether they may, and that the path's ids are theirs."""

    async def check(request: Request, team: TeamHeader = None) -> None:
        scope = access.reading if request.method in _READING else access.writing
        identity: Identity = request.state.identity
        request.state.caller = await allowed(owners, scope, identity, team=team, path=request.path_params)

    return [Depends(_SCHEME), Depends(check)]


def operators_only() -> Sequence[params.Depends]:
    """The dependencies of a router that only operators may use."""

    async def check(request: Request) -> None:
        identity: Identity = request.state.identity
        identity.require_operator()
        request.state.caller = identity.in_team(None)

    return [Depends(_SCHEME), Depends(check)]


async def _caller(request: Request) -> Caller:
    # The framework would call what is not async in a thread.
    found: Caller = request.state.caller
    return found


CallerOf = Annotated[Caller, Depends(_caller)]
"""The caller of a guarded route."""
