# Made from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/webhooks and what was sent by them."""

from collections.abc import Iterator, Sequence

from craft.contracts.public.webhooks import (
    DeliveryDetail,
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    SecretView,
    WebhookList,
    WebhookView,
)
from craft_client.answers import operation, query, route
from craft_client.sync.paging import every
from craft_client.sync.transport import Transport


class Webhooks:
    """Calls on the team's webhooks and their deliveries."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("createWebhook")
    def create(self, url: str, *, types: Sequence[str] | None = None, name: str | None = None) -> SecretView:
        """Have events sent to an https address: names, groups such as `job.*`, or `*`; by default `job.*`.

        Its `secret` can be read in this answer only. Not tried again where its answer may be lost.
        """
        body = query(url=url, types=None if types is None else [*types], name=name)
        return self._transport.call(SecretView, "POST", "/craft/webhooks", json=body, safe=False)

    @operation("listWebhooks")
    def list(self, *, limit: int | None = None, after: str | None = None) -> WebhookList:
        """A page of webhooks, newest first."""
        return self._transport.call(WebhookList, "GET", "/craft/webhooks", params=query(limit=limit, after=after))

    def iterate(self) -> Iterator[WebhookView]:
        """All webhooks, newest first."""

        def fetch(after: str | None) -> WebhookList:
            return self.list(limit=100, after=after)

        for webhook in every(fetch, lambda webhook: webhook.id):
            yield webhook

    @operation("getWebhook")
    def get(self, webhook_id: str) -> WebhookView:
        """One webhook, without its secret."""
        return self._transport.call(WebhookView, "GET", route("/craft/webhooks/{}", webhook_id))

    @operation("changeWebhook")
    def change(
        self,
        webhook_id: str,
        *,
        active: bool | None = None,
        types: Sequence[str] | None = None,
        name: str | None = None,
    ) -> WebhookView:
        """Switch it on or off, choose other events, or rename it; what is left out stays."""
        body = query(active=active, types=None if types is None else [*types], name=name)
        return self._transport.call(WebhookView, "PATCH", route("/craft/webhooks/{}", webhook_id), json=body)

    @operation("deleteWebhook")
    def delete(self, webhook_id: str) -> None:
        """Send nothing more to it, messages that wait neither."""
        self._transport.send("DELETE", route("/craft/webhooks/{}", webhook_id))

    @operation("rotateWebhookSecret")
    def rotate_secret(self, webhook_id: str) -> SecretView:
        """A new `secret`, to be read in this answer only; the one before signs for a day too.

        Not tried again where its answer may be lost: a second rotation would end the old secret at once.
        """
        path = route("/craft/webhooks/{}/rotate-secret", webhook_id)
        return self._transport.call(SecretView, "POST", path, safe=False)

    @operation("testWebhook")
    def test(self, webhook_id: str) -> DeliveryView:
        """Have a `webhook.test` sent; `delivery` tells what came of it."""
        path = route("/craft/webhooks/{}/test", webhook_id)
        return self._transport.call(DeliveryView, "POST", path, safe=False)

    @operation("listDeliveries")
    def deliveries(
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
        return self._transport.call(DeliveryList, "GET", path, params=params)

    def iterate_deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | str | None = None
    ) -> Iterator[DeliveryView]:
        """All that was sent and is still kept, newest first."""

        def fetch(after: str | None) -> DeliveryList:
            return self.deliveries(webhook_id, limit=100, after=after, status=status)

        for delivery in every(fetch, lambda delivery: delivery.id):
            yield delivery

    @operation("getDelivery")
    def delivery(self, webhook_id: str, delivery_id: str) -> DeliveryDetail:
        """One delivery, with the body that is sent."""
        path = route("/craft/webhooks/{}/deliveries/{}", webhook_id, delivery_id)
        return self._transport.call(DeliveryDetail, "GET", path)

    @operation("redeliver")
    def redeliver(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """Send it again at once, whatever became of it."""
        path = route("/craft/webhooks/{}/deliveries/{}/redeliver", webhook_id, delivery_id)
        return self._transport.call(DeliveryView, "POST", path, safe=False)
