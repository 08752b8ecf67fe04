"""/craft/webhooks and what was sent by them."""

from collections.abc import AsyncIterator, Sequence

from craft.contracts.public.webhooks import (
    DeliveryDetail,
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    SecretView,
    WebhookList,
    WebhookView,
)
from craft_client.aio.paging import every
from craft_client.aio.transport import AsyncTransport
from craft_client.answers import operation, query, route


class AsyncWebhooks:
    """Calls on the team's webhooks and their deliveries."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    @operation("createWebhook")
    async def create(self, url: str, *, types: Sequence[str] | None = None, name: str | None = None) -> SecretView:
        """Have events sent to an https address: names, groups such as `job.*`, or `*`; by default `job.*`.

        Its `secret` can be read in this answer only. Not tried again where its answer may be lost.
        """
        body = query(url=url, types=None if types is None else [*types], name=name)
        return await self._transport.call(SecretView, "POST", "/craft/webhooks", json=body, safe=False)

    @operation("listWebhooks")
    async def list(self, *, limit: int | None = None, after: str | None = None) -> WebhookList:
        """A page of webhooks, newest first."""
        return await self._transport.call(WebhookList, "GET", "/craft/webhooks", params=query(limit=limit, after=after))

    async def iterate(self) -> AsyncIterator[WebhookView]:
        """All webhooks, newest first."""

        async def fetch(after: str | None) -> WebhookList:
            return await self.list(limit=100, after=after)

        async for webhook in every(fetch, lambda webhook: webhook.id):
            yield webhook

    @operation("getWebhook")
    async def get(self, webhook_id: str) -> WebhookView:
        """One webhook, without its secret."""
        return await self._transport.call(WebhookView, "GET", route("/craft/webhooks/{}", webhook_id))

    @operation("changeWebhook")
    async def change(
        self,
        webhook_id: str,
        *,
        active: bool | None = None,
        types: Sequence[str] | None = None,
        name: str | None = None,
    ) -> WebhookView:
        """Switch it on or off, choose other events, or rename it; what is left out stays."""
        body = query(active=active, types=None if types is None else [*types], name=name)
        return await self._transport.call(WebhookView, "PATCH", route("/craft/webhooks/{}", webhook_id), json=body)

    @operation("deleteWebhook")
    async def delete(self, webhook_id: str) -> None:
        """Send nothing more to it, messages that wait neither."""
        await self._transport.send("DELETE", route("/craft/webhooks/{}", webhook_id))

    @operation("rotateWebhookSecret")
    async def rotate_secret(self, webhook_id: str) -> SecretView:
        """A new `secret`, to be read in this answer only; the one before signs for a day too.

        Not tried again where its answer may be lost: a second rotation would end the old secret at once.
        """
        path = route("/craft/webhooks/{}/rotate-secret", webhook_id)
        return await self._transport.call(SecretView, "POST", path, safe=False)

    @operation("testWebhook")
    async def test(self, webhook_id: str) -> DeliveryView:
        """Have a `webhook.test` sent; `delivery` tells what came of it."""
        path = route("/craft/webhooks/{}/test", webhook_id)
        return await self._transport.call(DeliveryView, "POST", path, safe=False)

    @operation("listDeliveries")
    async def deliveries(
        self,
        webhook_id: str,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: DeliveryStatus | str | None = None,
    ) -> DeliveryList:
        """A page of what was sent, newest first."""
        path = route("/craft/webhooks/{}/deliveries", webhook_id)
        params = query(limit=limit, after=after, status=status)
        return await self._transport.call(DeliveryList, "GET", path, params=params)

    async def iterate_deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | str | None = None
    ) -> AsyncIterator[DeliveryView]:
        """All that was sent and is still kept, newest first."""

        async def fetch(after: str | None) -> DeliveryList:
            return await self.deliveries(webhook_id, limit=100, after=after, status=status)

        async for delivery in every(fetch, lambda delivery: delivery.id):
            yield delivery

    @operation("getDelivery")
    async def delivery(self, webhook_id: str, delivery_id: str) -> DeliveryDetail:
        """One delivery, with the body that is sent."""
        path = route("/craft/webhooks/{}/deliveries/{}", webhook_id, delivery_id)
        return await self._transport.call(DeliveryDetail, "GET", path)

    @operation("redeliver")
    async def redeliver(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """Send it again at once, whatever became of it."""
        path = route("/craft/webhooks/{}/deliveries/{}/redeliver", webhook_id, delivery_id)
        return await self._transport.call(DeliveryView, "POST", path, safe=False)
