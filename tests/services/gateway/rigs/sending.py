"""A world whose events go to a receiver: webhooks, their deliveries and senders over one database."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlmodel import col, select
from standardwebhooks import Webhook as Verifier
from tests.services.gateway.rigs.receiver import Received, Receiver, receiving
from tests.services.gateway.rigs.world import World

from craft.contracts.events import EventType
from craft.contracts.public.accounts import DEFAULT_TEAM, SCOPES_OF, Role
from craft.contracts.public.webhooks import WebhookRequest
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.http.outbound import resolve as resolve_here
from craft_gateway.access.identity import Caller
from craft_gateway.lifecycle.job_transaction import job_transaction
from craft_gateway.store.tables import Delivery, Webhook
from craft_gateway.webhooks.deliveries import Deliveries
from craft_gateway.webhooks.delivery_log import DeliveryLog
from craft_gateway.webhooks.http_post import DeliveryOutcome, HttpPoster
from craft_gateway.webhooks.registry import NewSecret, Webhooks
from craft_gateway.webhooks.secrets import SecretBox
from craft_gateway.webhooks.sender import WebhookSender

ADMIN = Caller("ckey_of_the_tests", DEFAULT_TEAM, SCOPES_OF[Role.ADMIN])
ALLOWED = ("127.0.0.1", "localhost")
PER_HOST = 4


class Sending:
    """A world with a receiver, and short calls for the tests. An attempt ends after `seconds`."""

    def __init__(self, world: World, receiver: Receiver, folder: Path, *, seconds: float = 1.0) -> None:
        self.world = world
        self.receiver = receiver
        self.seconds = seconds
        self.policy = OutboundPolicy(ALLOWED, resolve=self._resolve)
        self.addresses: dict[str, list[str]] = {}
        self.resolved: list[str] = []
        self.box = SecretBox(folder / "webhook.key")
        self.webhooks = Webhooks(world.database, policy=self.policy, box=self.box)
        self.log = DeliveryLog(world.database)
        self.deliveries = Deliveries(world.database, at_once_per_host=PER_HOST, keep_days=7.0)
        self.outcomes: Counter[DeliveryOutcome] = Counter()

    def _resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses.get(host) or list(resolve_here(host, port))

    def hook(self, path: str = "/", *types: str, url: str | None = None, caller: Caller = ADMIN) -> NewSecret:
        request = WebhookRequest(url=url or self.receiver.url(path), types=list(types or ("job.*",)))
        return self.webhooks.create(request, caller)

    def sender(self) -> WebhookSender:
        return WebhookSender(
            self.deliveries,
            HttpPoster(self.policy, seconds=self.seconds),
            self.box,
            count=lambda outcome: self.outcomes.update([outcome]),
        )

    def deliver(self) -> None:
        """Send every due message, and record the outcomes."""

        async def go() -> None:
            sender = self.sender()
            while await sender.step():
                await sender.wait_for_attempts()

        asyncio.run(go())

    def emit(self, job_id: str, type_: EventType = EventType.JOB_QUEUED, **data: object) -> None:
        with job_transaction(self.world.database, job_id) as unit:
            unit.emit(type_, **data)

    def rows(self, webhook: NewSecret | None = None) -> list[Delivery]:
        query = select(Delivery).order_by(col(Delivery.id))
        if webhook is not None:
            query = query.where(Delivery.webhook_id == webhook.row.id)
        with self.world.database.read() as session:
            return list(session.exec(query))

    def row(self, webhook: NewSecret) -> Delivery:
        (only,) = self.rows(webhook)
        return only

    def now(self, webhook: NewSecret) -> Webhook:
        return self.webhooks.find(webhook.row.id)


def verified(received: Received, secret: str) -> dict[str, object]:
    """Verify the request with the library that receivers use, and return its body."""
    body: dict[str, object] = Verifier(secret).verify(received.body, received.headers)
    return body


@contextmanager
def open_sending(world: World, folder: Path, *, seconds: float = 1.0) -> Iterator[Sending]:
    """Open a `Sending` over the world."""
    with receiving() as receiver:
        yield Sending(world, receiver, folder, seconds=seconds)
