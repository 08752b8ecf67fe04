"""/craft/api-keys, /craft/teams, /craft/audit and the models of /v1."""

from collections.abc import AsyncIterator, Sequence

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
from craft_client.aio.paging import all_items
from craft_client.aio.transport import AsyncTransport
from craft_client.encoding import operation, query, route


class AsyncKeys:
    """Calls on the team's API keys."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @operation("createKey")
    async def create(
        self,
        name: str,
        *,
        role: Role | str = Role.EDITOR,
        scopes: Sequence[Scope | str] | None = None,
        expires_in_days: float | None = None,
    ) -> CreatedKeyView:
        """Make a key. Only this response has its `key`, so the call is not repeated where the response may be lost."""
        body = {"name": name, "role": role, "scopes": scopes, "expires_in_days": expires_in_days}
        return await self._transport.call(CreatedKeyView, "POST", "/craft/api-keys", json=body, idempotent=False)

    @operation("listKeys")
    async def list(self, *, limit: int | None = None, after: str | None = None) -> KeyList:
        """A page of keys, newest first, with revoked and expired ones."""
        return await self._transport.call(KeyList, "GET", "/craft/api-keys", params=query(limit=limit, after=after))

    async def iterate(self) -> AsyncIterator[KeyView]:
        """All keys, newest first."""

        async def fetch(after: str | None) -> KeyList:
            return await self.list(limit=100, after=after)

        async for key in all_items(fetch, lambda key: key.id):
            yield key

    @operation("getKey")
    async def get(self, key_id: str) -> KeyView:
        """One key, without its secret."""
        return await self._transport.call(KeyView, "GET", route("/craft/api-keys/{}", key_id))

    @operation("revokeKey")
    async def revoke(self, key_id: str) -> KeyView:
        """Revoke a key: within five seconds it is refused everywhere."""
        return await self._transport.call(KeyView, "POST", route("/craft/api-keys/{}/revoke", key_id))


class AsyncTeams:
    """Calls on teams, for operators."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @operation("listTeams")
    async def list(self) -> TeamList:
        """All teams, with their limits and their use."""
        return await self._transport.call(TeamList, "GET", "/craft/teams")

    @operation("getTeam")
    async def get(self, team: str) -> TeamView:
        """One team."""
        return await self._transport.call(TeamView, "GET", route("/craft/teams/{}", team))

    @operation("putTeam")
    async def set(
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
        return await self._transport.call(TeamView, "PUT", route("/craft/teams/{}", team), json=body)


class AsyncAudit:
    """Calls on the team's audit log."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @operation("listAudit")
    async def list(
        self, *, limit: int | None = None, after: str | None = None, subject: str | None = None
    ) -> AuditList:
        """A page of entries, newest first; with `subject`, only those of one job, key or dataset."""
        params = query(limit=limit, after=after, subject=subject)
        return await self._transport.call(AuditList, "GET", "/craft/audit", params=params)

    async def iterate(self, *, subject: str | None = None) -> AsyncIterator[AuditEntry]:
        """All entries, newest first."""

        async def fetch(after: str | None) -> AuditList:
            return await self.list(limit=500, after=after, subject=subject)

        async for entry in all_items(fetch, lambda entry: entry.id):
            yield entry


class AsyncModels:
    """Calls on deployed adapters, by their names in /v1. Use OpenAI's client to chat with one."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @operation("listModels")
    async def list(self) -> ServedModelList:
        """All deployed adapters, newest first."""
        return await self._transport.call(ServedModelList, "GET", "/v1/models")

    @operation("getModel")
    async def get(self, model: str) -> ServedModel:
        """One deployed adapter."""
        return await self._transport.call(ServedModel, "GET", route("/v1/models/{}", model))
