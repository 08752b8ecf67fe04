# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/api-keys, /craft/teams, /craft/audit and the models of /v1."""

from collections.abc import Iterator, Sequence

from craft.contracts.openai.chat import ServedModel, ServedModelList
from craft.contracts.public.accounts import (
    AuditEntry,
    AuditList,
    CreatedKeyView,
    KeyList,
    KeyView,
    Role,
    Scope,
    TeamList,
    TeamView,
)
from craft_client.encoding import operation, query, route
from craft_client.sync.paging import all_items
from craft_client.sync.transport import Transport


class Keys:
    """Calls on the team's API keys."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("createKey")
    def create(
        self,
        name: str,
        *,
        role: Role | str = Role.EDITOR,
        scopes: Sequence[Scope | str] | None = None,
        expires_in_days: float | None = None,
    ) -> CreatedKeyView:
        """Make a key. Only this response has its `key`, so the call is not repeated where the response may be lost."""
        body = {"name": name, "role": role, "scopes": scopes, "expires_in_days": expires_in_days}
        return self._transport.call(CreatedKeyView, "POST", "/craft/api-keys", json=body, idempotent=False)

    @operation("listKeys")
    def list(self, *, limit: int | None = None, after: str | None = None) -> KeyList:
        """A page of keys, newest first, with revoked and expired ones."""
        return self._transport.call(KeyList, "GET", "/craft/api-keys", params=query(limit=limit, after=after))

    def iterate(self) -> Iterator[KeyView]:
        """All keys, newest first."""

        def fetch(after: str | None) -> KeyList:
            return self.list(limit=100, after=after)

        for key in all_items(fetch, lambda key: key.id):
            yield key

    @operation("getKey")
    def get(self, key_id: str) -> KeyView:
        """One key, without its secret."""
        return self._transport.call(KeyView, "GET", route("/craft/api-keys/{}", key_id))

    @operation("revokeKey")
    def revoke(self, key_id: str) -> KeyView:
        """Revoke a key: within five seconds it is refused everywhere."""
        return self._transport.call(KeyView, "POST", route("/craft/api-keys/{}/revoke", key_id))


class Teams:
    """Calls on teams, for operators."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("listTeams")
    def list(self) -> TeamList:
        """All teams, with their limits and their use."""
        return self._transport.call(TeamList, "GET", "/craft/teams")

    @operation("getTeam")
    def get(self, team: str) -> TeamView:
        """One team."""
        return self._transport.call(TeamView, "GET", route("/craft/teams/{}", team))

    @operation("putTeam")
    def set(
        self,
        team: str,
        *,
        weight: float = 1.0,
        max_running_jobs: int | None = None,
        gpu_seconds_per_day: float | None = None,
        gpu_seconds_per_job: float | None = None,
        max_unfinished_jobs: int | None = 1000,
    ) -> TeamView:
        """Make a team, or replace all limits of a team. None means no limit."""
        body = {
            "weight": weight,
            "max_running_jobs": max_running_jobs,
            "gpu_seconds_per_day": gpu_seconds_per_day,
            "gpu_seconds_per_job": gpu_seconds_per_job,
            "max_unfinished_jobs": max_unfinished_jobs,
        }
        return self._transport.call(TeamView, "PUT", route("/craft/teams/{}", team), json=body)


class Audit:
    """Calls on the team's audit log."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("listAudit")
    def list(self, *, limit: int | None = None, after: str | None = None, subject: str | None = None) -> AuditList:
        """A page of entries, newest first; with `subject`, only those of one job, key or dataset."""
        params = query(limit=limit, after=after, subject=subject)
        return self._transport.call(AuditList, "GET", "/craft/audit", params=params)

    def iterate(self, *, subject: str | None = None) -> Iterator[AuditEntry]:
        """All entries, newest first."""

        def fetch(after: str | None) -> AuditList:
            return self.list(limit=500, after=after, subject=subject)

        for entry in all_items(fetch, lambda entry: entry.id):
            yield entry


class Models:
    """Calls on deployed adapters, by their names in /v1. Use OpenAI's client to chat with one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("listModels")
    def list(self) -> ServedModelList:
        """All deployed adapters, newest first."""
        return self._transport.call(ServedModelList, "GET", "/v1/models")

    @operation("getModel")
    def get(self, model: str) -> ServedModel:
        """One deployed adapter."""
        return self._transport.call(ServedModel, "GET", route("/v1/models/{}", model))
