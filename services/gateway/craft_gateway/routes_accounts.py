"""Who the caller is, the team's keys, and what happened in the team."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from craft.contracts.accounts import (
    KEY_ID,
    AuditEntry,
    AuditList,
    CallerView,
    CreatedKeyView,
    KeyList,
    KeyRequest,
    KeyView,
    Scope,
)
from craft.errors import NotFound, RequestInvalid, Unavailable
from craft.infra.http import documented
from craft_gateway.audit import audit_page, entry_id
from craft_gateway.authorisation import ANYBODY, TEAM, CallerOf, guarded
from craft_gateway.routes_body import TextBodyRoute
from craft_gateway.routes_gateway import Gateway, Limit
from craft_gateway.tables import ApiKey, Event
from craft_gateway.views import ROOT

_KEYS = [{"summary": "For a pipeline", "value": {"name": "nightly runs", "role": "editor", "expires_in_days": 90}}]


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter()
    routes.include_router(_me(gateway))
    routes.include_router(_keys(gateway))
    return routes


def _me(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["accounts"], dependencies=guarded(gateway.owners, ANYBODY))

    @routes.get("/me", operation_id="getMe")
    def get_me(caller: CallerOf) -> CallerView:
        """Who the server takes the caller for, and what they may do in which team."""
        return CallerView(
            actor=caller.actor,
            team=caller.team,
            scopes=sorted(caller.scopes),
            operator=caller.operator,
            teams=list(caller.teams),
        )

    return routes


def _keys(gateway: Gateway) -> APIRouter:
    routes = APIRouter(
        tags=["accounts"],
        route_class=TextBodyRoute,
        dependencies=guarded(gateway.owners, TEAM),
    )

    @routes.post(
        "/api-keys", operation_id="createKey", status_code=201, responses=documented(RequestInvalid, Unavailable)
    )
    def create_key(request: KeyRequest, caller: CallerOf, response: Response) -> CreatedKeyView:
        """A key of the caller's team. The answer is the only place where it can be read."""
        made = gateway.keys.create(request, caller)
        response.headers["Location"] = f"{ROOT}/api-keys/{made.row.id}"
        response.headers["Cache-Control"] = "no-store"
        return CreatedKeyView(**_view(made.row).model_dump(), key=made.key)

    @routes.get("/api-keys", operation_id="listKeys", responses=documented(RequestInvalid))
    def list_keys(
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=KEY_ID, description="The `last_id` of the page before.")] = None,
    ) -> KeyList:
        """The team's keys, newest first, revoked and expired ones too."""
        found = gateway.keys.listed(caller.team, limit=limit, after=after)
        page = found[:limit]
        return KeyList(
            data=[_view(row) for row in page],
            has_more=len(found) > limit,
            last_id=page[-1].id if page else None,
        )

    @routes.get("/api-keys/{key_id}", operation_id="getKey", responses=documented(NotFound))
    def get_key(key_id: str) -> KeyView:
        """One key, without its secret."""
        return _view(gateway.keys.find(key_id))

    @routes.post("/api-keys/{key_id}/revoke", operation_id="revokeKey", responses=documented(NotFound, Unavailable))
    def revoke_key(key_id: str) -> KeyView:
        """Within five seconds the key opens nothing any more; it stays to be seen. Twice is as once."""
        return _view(gateway.keys.revoke(key_id))

    @routes.get("/audit", operation_id="listAudit", responses=documented(RequestInvalid))
    def list_audit(
        caller: CallerOf,
        limit: Limit = 100,
        after: Annotated[str | None, Query(max_length=140, description="The `last_id` of the page before.")] = None,
        subject: Annotated[str | None, Query(max_length=120, description="Only of this job, key or dataset.")] = None,
    ) -> AuditList:
        """What people and pipelines of the team made happen, newest first."""
        found = audit_page(gateway.database, caller.team, limit=limit, after=after, subject=subject)
        page = found[:limit]
        return AuditList(
            data=[_entry(event) for event in page],
            has_more=len(found) > limit,
            last_id=entry_id(page[-1]) if page else None,
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
