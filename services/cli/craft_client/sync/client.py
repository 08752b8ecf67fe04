# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""The client: its attributes are the resources, and it returns the contracts' own models."""

from craft.contracts.public.accounts import CallerView
from craft.contracts.public.jobs import QueueView
from craft.contracts.public.retention import GcView
from craft_client.config import connection
from craft_client.encoding import operation, query
from craft_client.errors import ApiError, ServerUnreachable
from craft_client.sync.accounts import Audit, Keys, Models, Teams
from craft_client.sync.datasets import Datasets
from craft_client.sync.jobs import Jobs
from craft_client.sync.transport import Transport
from craft_client.sync.webhooks import Webhooks


class Client:
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
        transport: Transport | None = None,
    ) -> None:
        """Omitted arguments come from CRAFT_URL, CRAFT_API_KEY and CRAFT_TEAM, or from a profile of `craft login`.

        `timeout_seconds` limits the wait for a response's next bytes; `transport` is for tests. Raises ConfigError.
        """
        if transport is None:
            target = connection(url=base_url, api_key=api_key, team=team, profile=profile)
            transport = Transport.of(target, timeout_seconds=timeout_seconds, retries=retries)
        self._transport = transport
        self.jobs = Jobs(transport)
        self.datasets = Datasets(transport)
        self.keys = Keys(transport)
        self.teams = Teams(transport)
        self.audit = Audit(transport)
        self.models = Models(transport)
        self.webhooks = Webhooks(transport)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self._transport.base_url

    @operation("getMe")
    def me(self) -> CallerView:
        """The caller as the server knows it: name, team and scopes."""
        return self._transport.call(CallerView, "GET", "/craft/me")

    @operation("getQueue")
    def queue(self) -> QueueView:
        """The unfinished jobs, the reason why each waits, and the jobs that use the devices."""
        return self._transport.call(QueueView, "GET", "/craft/queue")

    @operation("collectGarbage")
    def gc(self, *, dry_run: bool = True, limit: int | None = None) -> GcView:
        """Show what has expired in the artifact store; with `dry_run=False` remove it, up to a limit for each call."""
        return self._transport.call(GcView, "POST", "/craft/gc", params=query(dry_run=dry_run, limit=limit))

    @operation("readyz")
    def ready(self) -> bool:
        """True when the gateway and all that it needs are ready."""
        try:
            return (self._transport.send("GET", "/readyz")).is_success
        except (ApiError, ServerUnreachable):
            return False

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
