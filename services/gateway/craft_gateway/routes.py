"""The public API: one router at /craft, and the same at /v1/craft; OpenAI's calls at /v1."""

from fastapi import APIRouter

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
from craft_gateway.authorisation import REFUSALS
from craft_gateway.routes_gateway import Gateway
from craft_gateway.views import OPENAI_ROOT, ROOT


def router(gateway: Gateway) -> APIRouter:
    """All public routes. The second prefix answers the same and is left out of the OpenAPI document."""
    inner = APIRouter()
    of_jobs = (
        routes_comparing,
        routes_jobs,
        routes_job_control,
        routes_events,
        routes_results,
        routes_deployments,
        routes_publishing,
    )
    for part in (*of_jobs, routes_datasets, routes_retention, routes_accounts, routes_teams, routes_webhooks):
        inner.include_router(part.router(gateway), responses=REFUSALS)
    outer = APIRouter()
    outer.include_router(inner, prefix=ROOT)
    outer.include_router(inner, prefix=f"{OPENAI_ROOT}{ROOT}", include_in_schema=False)
    for openais in (routes_openai, routes_openai_files, routes_openai_tuning):
        outer.include_router(openais.router(gateway), prefix=OPENAI_ROOT)
    return outer
