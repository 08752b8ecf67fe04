"""The public API: what stands before it; its routers at /craft, and the same at /v1/craft; OpenAI's calls at /v1."""

from fastapi import Depends
from starlette.middleware import Middleware

from craft.errors import RequestInvalid
from craft.infra.http import Mounted, documented
from craft_gateway import (
    routes_accounts,
    routes_comparing,
    routes_datasets,
    routes_deployments,
    routes_events,
    routes_job_control,
    routes_jobs,
    routes_openai,
    routes_openai_files,
    routes_openai_tuning,
    routes_publishing,
    routes_results,
    routes_retention,
    routes_teams,
    routes_webhooks,
)
from craft_gateway.authentication import Authentication, Authenticator
from craft_gateway.authorisation import REFUSALS
from craft_gateway.polling import Polls
from craft_gateway.query_names import KnownNames
from craft_gateway.rate_limits import RateLimits
from craft_gateway.routes_gateway import Gateway
from craft_gateway.views import OPENAI_ROOT, ROOT


def before_routes(gateway: Gateway, authenticator: Authenticator, limits: RateLimits) -> list[Middleware]:
    """What every request passes first: whose it is, then whether it is one of the polls that most of them are."""
    return [
        Middleware(Authentication, authenticator=authenticator, limits=limits),
        Middleware(Polls, owners=gateway.owners, bodies=gateway.bodies),
    ]


def routers(gateway: Gateway) -> list[Mounted]:
    """All public routes. The second prefix answers the same and is left out of the OpenAPI document."""
    of_jobs = (
        routes_comparing,
        routes_jobs,
        routes_job_control,
        routes_events,
        routes_results,
        routes_deployments,
        routes_publishing,
    )
    others = (routes_datasets, routes_retention, routes_accounts, routes_teams, routes_webhooks)
    own = [part.router(gateway) for part in (*of_jobs, *others)]
    openais = [part.router(gateway) for part in (routes_openai, routes_openai_files, routes_openai_tuning)]
    refusals = {**REFUSALS, **documented(RequestInvalid)}
    # OpenAI's clients may send what only OpenAI knows.
    checks = [Depends(KnownNames())]
    return [
        *(Mounted(router, ROOT, refusals, checks) for router in own),
        *(Mounted(router, f"{OPENAI_ROOT}{ROOT}", refusals, checks, include_in_schema=False) for router in own),
        *(Mounted(router, OPENAI_ROOT) for router in openais),
    ]
