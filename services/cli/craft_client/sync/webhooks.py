# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/webhooks and their deliveries."""

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
from craft_client.encoding import operation, query, route
from craft_client.sync.paging import all_items
from craft_client.sync.transport import Transport


class Webhooks:
    """Calls on the team's webhooks and their deliveries."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("createWebhook")
    def create(self, url: str, *, types: Sequence[str] | None = None, name: str | None = None) -> SecretView:
        """Send events to an https address. `types` are names, groups such as `job.*`, or `*`; by default `job.*`.

        Only this response has the `secret`, so the call is not repeated where the response may be lost.
        """
        body = query(url=url, types=None if types is None else [*types], name=name)
        return self._transport.call(SecretView, "POST", "/craft/webhooks", json=body, idempotent=False)

    @operation("listWebhooks")
    def list(self, *, limit: int | None = None, after: str | None = None) -> WebhookList:
        """A page of webhooks, newest first."""
        return self._transport.call(WebhookList, "GET", "/craft/webhooks", params=query(limit=limit, after=after))

    def iterate(self) -> Iterator[WebhookView]:
        """All webhooks, newest first."""

        def fetch(after: str | None) -> WebhookList:
            return self.list(limit=100, after=after)

        for webhook in all_items(fetch, lambda webhook: webhook.id):
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
        """Switch a webhook on or off, choose other events, or rename it. Omitted arguments change nothing."""
        body = query(active=active, types=None if types is None else [*types], name=name)
        return self._transport.call(WebhookView, "PATCH", route("/craft/webhooks/{}", webhook_id), json=body)

    @operation("deleteWebhook")
    def delete(self, webhook_id: str) -> None:
        """Delete a webhook. Messages that wait for it are not sent."""
        self._transport.send("DELETE", route("/craft/webhooks/{}", webhook_id))

    @operation("rotateWebhookSecret")
    def rotate_secret(self, webhook_id: str) -> SecretView:
        """Make a new `secret`, which only this response has. The old one also signs for one more day.

        The call is not repeated where the response may be lost: a second rotation would end the old secret at once.
        """
        path = route("/craft/webhooks/{}/rotate-secret", webhook_id)
        return self._transport.call(SecretView, "POST", path, idempotent=False)

    @operation("testWebhook")
    def test(self, webhook_id: str) -> DeliveryView:
        """Send a `webhook.test` event; `delivery` shows its outcome."""
        path = route("/craft/webhooks/{}/test", webhook_id)
        return self._transport.call(DeliveryView, "POST", path, idempotent=False)

    @operation("listDeliveries")
    def deliveries(
        self,
        webhook_id: str,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: DeliveryStatus | str | None = None,
    ) -> DeliveryList:
        """A page of deliveries, newest first."""
        path = route("/craft/webhooks/{}/deliveries", webhook_id)
        params = query(limit=limit, after=after, status=status)
        return self._transport.call(DeliveryList, "GET", path, params=params)

    def iterate_deliveries(
        self, webhook_id: str, *, status: DeliveryStatus | str | None = None
    ) -> Iterator[DeliveryView]:
        """All deliveries that are still stored, newest first."""

        def fetch(after: str | None) -> DeliveryList:
            return self.deliveries(webhook_id, limit=100, after=after, status=status)

        for delivery in all_items(fetch, lambda delivery: delivery.id):
            yield delivery

    @operation("getDelivery")
    def delivery(self, webhook_id: str, delivery_id: str) -> DeliveryDetail:
        """One delivery, with its body."""
        path = route("/craft/webhooks/{}/deliveries/{}", webhook_id, delivery_id)
        return self._transport.call(DeliveryDetail, "GET", path)

    @operation("redeliver")
    def redeliver(self, webhook_id: str, delivery_id: str) -> DeliveryView:
        """Send a message again at once, whatever its status."""
        path = route("/craft/webhooks/{}/deliveries/{}/redeliver", webhook_id, delivery_id)
        return self._transport.call(DeliveryView, "POST", path, idempotent=False)
