"""Routes of the caller, the team's keys and audit, and the teams."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from craft.contracts.base import NAME
from craft.contracts.public.accounts import (
    KEY_ID,
    AuditEntry,
    AuditList,
    CallerView,
    CreatedKeyView,
    KeyList,
    KeyRequest,
    KeyView,
    Scope,
    TeamList,
    TeamSettings,
    TeamView,
)
from craft.contracts.spec.jobs import PlainText
from craft.errors import Conflict, NotFound, RequestInvalid, Unavailable
from craft.infra.http.openapi import documented
from craft_gateway.access.authorisation import NO_SCOPE, TEAM, CallerOf, authorised, operators_only
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.accounts.audit import audit_page, entry_id
from craft_gateway.accounts.keys import ApiKeys
from craft_gateway.accounts.teams import TeamRegistry, TeamUse
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.http.parameters import Limit
from craft_gateway.http.responses import ROOT
from craft_gateway.store.database import Database
from craft_gateway.store.tables import ApiKey, Event

_AFTER = "The `last_id` of the page before."
_SUBJECT = "Only of this job, key or dataset."
_KEYS = [{"summary": "For a pipeline", "value": {"name": "nightly runs", "role": "editor", "expires_in_days": 90}}]


def router(owners: OwnerLookup, keys: ApiKeys, database: Database) -> APIRouter:
    """Build the routes of a team's members: the caller, API keys and the audit."""
    routes = APIRouter()
    routes.include_router(_me(owners))
    routes.include_router(_keys(owners, keys, database))
    return routes


def _me(owners: OwnerLookup) -> APIRouter:
    routes = APIRouter(tags=["accounts"], dependencies=authorised(owners, NO_SCOPE))

    @routes.get("/me", operation_id="getMe")
    def get_me(caller: CallerOf) -> CallerView:
        """Return the caller's identity, and the scopes that it has in the team."""
        return CallerView(
            actor=caller.actor,
            team=caller.team,
            scopes=sorted(caller.scopes),
            operator=caller.operator,
            teams=list(caller.teams),
        )

    return routes


def _keys(owners: OwnerLookup, keys: ApiKeys, database: Database) -> APIRouter:
    routes = APIRouter(
        tags=["accounts"],
        route_class=TextBodyRoute,
        dependencies=authorised(owners, TEAM),
    )

    @routes.post(
        "/api-keys", operation_id="createKey", status_code=201, responses=documented(RequestInvalid, Unavailable)
    )
    def create_key(request: KeyRequest, caller: CallerOf, response: Response) -> CreatedKeyView:
        """Create a key of the caller's team. Only this answer shows the key."""
        created = keys.create(request, caller)
        response.headers["Location"] = f"{ROOT}/api-keys/{created.row.id}"
        response.headers["Cache-Control"] = "no-store"
        return CreatedKeyView(**_view(created.row).model_dump(), key=created.key)

    @routes.get("/api-keys", operation_id="listKeys", responses=documented(RequestInvalid))
    def list_keys(
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=KEY_ID, description=_AFTER)] = None,
    ) -> KeyList:
        """List the team's keys, newest first, with revoked and expired ones."""
        page = keys.listed(caller.team, limit=limit, after=after)
        return KeyList(
            data=[_view(row) for row in page.rows],
            has_more=page.has_more,
            last_id=page.last.id if page.last else None,
        )

    @routes.get("/api-keys/{key_id}", operation_id="getKey", responses=documented(NotFound))
    def get_key(key_id: str) -> KeyView:
        """Return one key, without its secret."""
        return _view(keys.find(key_id))

    @routes.post("/api-keys/{key_id}/revoke", operation_id="revokeKey", responses=documented(NotFound, Unavailable))
    def revoke_key(key_id: str) -> KeyView:
        """Revoke a key. It stops working within five seconds and stays in the list. A repeated call changes nothing."""
        return _view(keys.revoke(key_id))

    @routes.get("/audit", operation_id="listAudit", responses=documented(RequestInvalid))
    def list_audit(
        caller: CallerOf,
        limit: Limit = 100,
        after: Annotated[PlainText | None, Query(max_length=140, description=_AFTER)] = None,
        subject: Annotated[PlainText | None, Query(max_length=120, description=_SUBJECT)] = None,
    ) -> AuditList:
        """List the events that people and pipelines of the team caused, newest first."""
        page = audit_page(database, caller.team, limit=limit, after=after, subject=subject)
        return AuditList(
            data=[_entry(event) for event in page.rows],
            has_more=page.has_more,
            last_id=entry_id(page.last) if page.last else None,
        )

    return routes


def _view(row: ApiKey) -> KeyView:
    return KeyView(
        id=row.id,
        team=row.team,
        name=row.name,
        role=row.role,
        scopes=[Scope(scope) for scope in row.scopes],
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _entry(event: Event) -> AuditEntry:
    return AuditEntry(
        id=entry_id(event),
        type=event.type,
        subject=event.subject,
        actor=event.actor,
        data=event.data,
        created_at=event.created_at,
    )


_Name = Annotated[str, Path(pattern=NAME, examples=["search"])]


def teams_router(teams: TeamRegistry) -> APIRouter:
    """Build the routes of the teams, which only operators may call."""
    routes = APIRouter(tags=["accounts"], route_class=TextBodyRoute, dependencies=operators_only())

    @routes.get("/teams", operation_id="listTeams")
    def list_teams() -> TeamList:
        """List every team with its limits and its use."""
        views = [_team_view(use) for use in teams.all()]
        return TeamList(data=views, last_id=views[-1].name if views else None)

    @routes.get("/teams/{team}", operation_id="getTeam", responses=documented(NotFound, RequestInvalid))
    def get_team(team: _Name) -> TeamView:
        """Return one team."""
        return _team_view(teams.find(team))

    @routes.put(
        "/teams/{team}",
        operation_id="putTeam",
        responses={
            201: {"model": TeamView, "description": "It is new."},
            **documented(RequestInvalid, Conflict, Unavailable),
        },
    )
    def put_team(team: _Name, settings: TeamSettings, response: Response) -> TeamView:
        """Create a team, or change its weight and quotas. A change counts from the next stage that a worker takes."""
        use, new = teams.put(team, settings)
        response.status_code = 201 if new else 200
        return _team_view(use)

    return routes


def _team_view(use: TeamUse) -> TeamView:
    row = use.row
    return TeamView(
        name=row.name,
        weight=row.weight,
        max_running_jobs=row.max_running_jobs,
        gpu_seconds_per_day=row.gpu_seconds_per_day,
        gpu_seconds_per_job=row.gpu_seconds_per_job,
        max_unfinished_jobs=row.max_unfinished_jobs,
        running_jobs=use.running_jobs,
        gpu_seconds_last_day=use.gpu_seconds,
        created_at=row.created_at,
    )
