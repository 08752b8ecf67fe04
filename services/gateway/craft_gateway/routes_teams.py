"""Teams with their weights and quotas: for operators of the installation."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from craft.contracts.accounts import TeamList, TeamSettings, TeamView
from craft.contracts.base import NAME
from craft.errors import Conflict, NotFound, RequestInvalid, Unavailable
from craft.infra.http import documented
from craft_gateway.authorisation import operators_only
from craft_gateway.routes_body import TextBodyRoute
from craft_gateway.routes_gateway import Gateway
from craft_gateway.team_registry import TeamUse

_Name = Annotated[str, Path(pattern=NAME, examples=["search"])]


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(tags=["accounts"], route_class=TextBodyRoute, dependencies=operators_only())

    @routes.get("/teams", operation_id="listTeams")
    def list_teams() -> TeamList:
        """Every team, what it may use and what it uses."""
        found = [_view(use) for use in gateway.teams.all()]
        return TeamList(data=found, last_id=found[-1].name if found else None)

    @routes.get("/teams/{team}", operation_id="getTeam", responses=documented(NotFound, RequestInvalid))
    def get_team(team: _Name) -> TeamView:
        """One team."""
        return _view(gateway.teams.find(team))

    @routes.put(
        "/teams/{team}",
        operation_id="putTeam",
        responses={
            201: {"model": TeamView, "description": "It is new."},
            **documented(RequestInvalid, Conflict, Unavailable),
        },
    )
    def put_team(team: _Name, settings: TeamSettings, response: Response) -> TeamView:
        """Make a team, or change its weight and quotas; they count from the next stage that a worker takes."""
        use, new = gateway.teams.put(team, settings)
        response.status_code = 201 if new else 200
        return _view(use)

    return routes


def _view(use: TeamUse) -> TeamView:
    row = use.row
    return TeamView(
        name=row.name,
        weight=row.weight,
        max_running_jobs=row.max_running_jobs,
        gpu_seconds_per_day=row.gpu_seconds_per_day,
        running_jobs=use.running_jobs,
        gpu_seconds_last_day=use.gpu_seconds,
        created_at=row.created_at,
    )
