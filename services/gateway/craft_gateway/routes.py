"""The public API: one router at /craft, and the same at /v1/craft."""

from fastapi import APIRouter

from craft_gateway import routes_datasets, routes_events, routes_jobs, routes_results
from craft_gateway.routes_gateway import Gateway
from craft_gateway.views import ROOT


def router(gateway: Gateway) -> APIRouter:
    """All public routes. The second prefix answers the same and is left out of the OpenAPI document."""
    inner = APIRouter()
    for part in (routes_jobs, routes_events, routes_results, routes_datasets):
        inner.include_router(part.router(gateway))
    outer = APIRouter()
    outer.include_router(inner, prefix=ROOT)
    outer.include_router(inner, prefix=f"/v1{ROOT}", include_in_schema=False)
    return outer
