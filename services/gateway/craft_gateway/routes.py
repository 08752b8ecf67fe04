"""The public API: one router at /craft, and the same at /v1/craft."""

import logging

from fastapi import APIRouter, FastAPI, Request, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from craft.contracts.problems import Problem
from craft.errors import Unavailable
from craft.infra.http_problems import problem_response
from craft_gateway import routes_datasets, routes_events, routes_jobs, routes_results
from craft_gateway.routes_gateway import Gateway
from craft_gateway.views import ROOT

_log = logging.getLogger("craft.gateway")


def router(gateway: Gateway) -> APIRouter:
    """All public routes. The second prefix answers the same and is left out of the OpenAPI document."""
    inner = APIRouter()
    for part in (routes_jobs, routes_events, routes_results, routes_datasets):
        inner.include_router(part.router(gateway))
    outer = APIRouter()
    outer.include_router(inner, prefix=ROOT)
    outer.include_router(inner, prefix=f"/v1{ROOT}", include_in_schema=False)
    return outer


def answer_database_errors(app: FastAPI) -> None:
    """A database that is away, busy or out of connections is a 503 to try again, never a stack trace."""

    async def unavailable(request: Request, error: Exception) -> Response:
        _log.warning("database_unavailable", exc_info=error)
        problem = Unavailable("The database does not answer just now.", hint="Nothing was changed; try again soon.")
        return problem_response(Problem.of(problem, request_id=getattr(request.state, "request_id", None)))

    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, unavailable)
