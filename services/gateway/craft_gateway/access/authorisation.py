"""Authorisation: each kind of route needs a scope, and ids of another team are not found."""

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
        # The name is looked up, so its form needs no check of its own.
        json_schema_extra={"pattern": NAME},
    ),
]


class RouteScopes(NamedTuple):
    """The scopes that a kind of route needs: to read and to change. None: any valid key may."""

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
    """Return the caller in the request's team, after checking the scope and that the team owns the path's ids.

    Raises Forbidden, NotFound, RequestInvalid.
    """
    caller = identity.in_team(team)
    if scope is not None:
        caller.require(scope)
    await owners.check_team(caller.team)
    await owners.check(caller, path)
    return caller


def authorised(owners: OwnerLookup, access: RouteScopes) -> Sequence[params.Depends]:
    """The dependencies of a router: they put the authorised caller into `request.state.caller`; see `allowed`."""

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
    # The framework would call a function that is not async in a thread.
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]
"""The caller of an authorised route."""
