"""The client: its attributes are the resources, and it returns the contracts' own models."""

from craft.contracts.public.accounts import CallerView
from craft.contracts.public.jobs import QueueView
from craft.contracts.public.retention import GcView
from craft_client.aio.accounts import AsyncAudit, AsyncKeys, AsyncModels, AsyncTeams
from craft_client.aio.datasets import AsyncDatasets
from craft_client.aio.jobs import AsyncJobs
from craft_client.aio.transport import AsyncTransport
from craft_client.aio.webhooks import AsyncWebhooks
from craft_client.config import connection
from craft_client.encoding import operation, query
from craft_client.errors import ApiError, ServerUnreachable


class AsyncClient:
    """A connection to one server. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        team: str | None = None,
        profile: str | None = None,
        timeout_seconds: float = 60.0,
        retries: int = 4,
        transport: AsyncTransport | None = None,
    ) -> None:
        """Omitted arguments come from CRAFT_URL, CRAFT_API_KEY and CRAFT_TEAM, or from a profile of `craft login`.

        `timeout_seconds` limits the wait for a response's next bytes; `transport` is for tests. Raises ConfigError.
        """
        if transport is None:
            target = connection(url=base_url, api_key=api_key, team=team, profile=profile)
            transport = AsyncTransport.of(target, timeout_seconds=timeout_seconds, retries=retries)
        self._transport = transport
        self.jobs = AsyncJobs(transport)
        self.datasets = AsyncDatasets(transport)
        self.keys = AsyncKeys(transport)
        self.teams = AsyncTeams(transport)
        self.audit = AsyncAudit(transport)
        self.models = AsyncModels(transport)
        self.webhooks = AsyncWebhooks(transport)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._transport.base_url

    @operation("getMe")
    async def me(self) -> CallerView:
        """The caller as the server knows it: name, team and scopes."""
        return await self._transport.call(CallerView, "GET", "/craft/me")

    @operation("getQueue")
    async def queue(self) -> QueueView:
        """The unfinished jobs, the reason why each waits, and the jobs that use the devices."""
        return await self._transport.call(QueueView, "GET", "/craft/queue")

    @operation("collectGarbage")
    async def gc(self, *, dry_run: bool = True, limit: int | None = None) -> GcView:
        """Show what has expired in the artifact store; with `dry_run=False` remove it, up to a limit for each call."""
        return await self._transport.call(GcView, "POST", "/craft/gc", params=query(dry_run=dry_run, limit=limit))

    @operation("readyz")
    async def ready(self) -> bool:
        """True when the gateway and all that it needs are ready."""
        try:
            return (await self._transport.send("GET", "/readyz")).is_success
        except (ApiError, ServerUnreachable):
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
