"""Routes of webhooks and of their deliveries."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from craft.contracts.public.webhooks import (
    DELIVERY_ID,
    WEBHOOK_ID,
    DeliveryDetail,
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    SecretView,
    WebhookChange,
    WebhookList,
    WebhookRequest,
    WebhookView,
)
from craft.errors import Conflict, NotFound, RequestInvalid, Unavailable
from craft.infra.http.openapi import documented
from craft_gateway.access.authorisation import WEBHOOKS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import TextBodyRoute
from craft_gateway.http.parameters import Limit
from craft_gateway.http.responses import ROOT
from craft_gateway.store.tables import Delivery, Webhook
from craft_gateway.webhooks.delivery_log import DeliveryLog
from craft_gateway.webhooks.examples import WEBHOOK_CHANGES, WEBHOOK_EXAMPLES
from craft_gateway.webhooks.registry import Webhooks

_AFTER = "The `last_id` of the page before."


def router(owners: OwnerLookup, webhooks: Webhooks, deliveries: DeliveryLog) -> APIRouter:
    """Make the routes of webhooks and deliveries."""
    routes = APIRouter()
    routes.include_router(_webhooks(owners, webhooks))
    routes.include_router(_deliveries(owners, webhooks, deliveries))
    return routes


def _routes(owners: OwnerLookup) -> APIRouter:
    return APIRouter(tags=["webhooks"], route_class=TextBodyRoute, dependencies=authorised(owners, WEBHOOKS))


def _webhooks(owners: OwnerLookup, webhooks: Webhooks) -> APIRouter:
    routes = _routes(owners)

    @routes.post(
        "/webhooks",
        operation_id="createWebhook",
        status_code=201,
        responses=documented(RequestInvalid, Conflict, Unavailable),
    )
    def create_webhook(
        request: Annotated[WebhookRequest, Body(openapi_examples=WEBHOOK_EXAMPLES)],
        caller: CallerOf,
        response: Response,
    ) -> SecretView:
        """Send the team's events to an https address. Only this answer shows the secret."""
        created = webhooks.create(request, caller)
        response.headers["Location"] = f"{ROOT}/webhooks/{created.row.id}"
        response.headers["Cache-Control"] = "no-store"
        return SecretView(**_view(created.row).model_dump(), secret=created.secret)

    @routes.get("/webhooks", operation_id="listWebhooks", responses=documented(RequestInvalid))
    def list_webhooks(
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=WEBHOOK_ID, description=_AFTER)] = None,
    ) -> WebhookList:
        """List the team's webhooks, newest first."""
        page = webhooks.listed(caller.team, limit=limit, after=after)
        return WebhookList(
            data=[_view(row) for row in page.rows],
            has_more=page.has_more,
            last_id=page.last.id if page.last else None,
        )

    @routes.get("/webhooks/{webhook_id}", operation_id="getWebhook", responses=documented(NotFound))
    def get_webhook(webhook_id: str) -> WebhookView:
        """Get one webhook, without its secret."""
        return _view(webhooks.find(webhook_id))

    @routes.patch(
        "/webhooks/{webhook_id}",
        operation_id="changeWebhook",
        responses=documented(NotFound, RequestInvalid, Unavailable),
    )
    def change_webhook(
        webhook_id: str, change: Annotated[WebhookChange, Body(openapi_examples=WEBHOOK_CHANGES)], caller: CallerOf
    ) -> WebhookView:
        """Switch it on or off, or choose other events. Events while it is off are not sent later."""
        return _view(webhooks.change(webhook_id, change, caller))

    @routes.delete(
        "/webhooks/{webhook_id}",
        operation_id="deleteWebhook",
        status_code=204,
        responses=documented(NotFound, Unavailable),
    )
    def delete_webhook(webhook_id: str) -> None:
        """Delete a webhook. Messages that wait for it are not sent."""
        webhooks.delete(webhook_id)

    @routes.post(
        "/webhooks/{webhook_id}/rotate-secret",
        operation_id="rotateWebhookSecret",
        responses=documented(NotFound, Unavailable),
    )
    def rotate_secret(webhook_id: str, response: Response) -> SecretView:
        """Make a new secret, which only this answer shows. For a day the old one signs messages as well."""
        rotated = webhooks.rotate(webhook_id)
        response.headers["Cache-Control"] = "no-store"
        return SecretView(**_view(rotated.row).model_dump(), secret=rotated.secret)

    return routes


def _deliveries(owners: OwnerLookup, webhooks: Webhooks, deliveries: DeliveryLog) -> APIRouter:
    routes = _routes(owners)
    path = "/webhooks/{webhook_id}/deliveries"

    @routes.post(
        "/webhooks/{webhook_id}/test",
        operation_id="testWebhook",
        status_code=202,
        responses=documented(NotFound, Conflict, Unavailable),
    )
    def test_webhook(webhook_id: str, response: Response) -> DeliveryView:
        """Send a message of type `webhook.test`; the delivery shows its result."""
        return _queued(deliveries.test(webhook_id), response)

    @routes.get(path, operation_id="listDeliveries", responses=documented(NotFound, RequestInvalid))
    def list_deliveries(
        webhook_id: str,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=DELIVERY_ID, description=_AFTER)] = None,
        status: DeliveryStatus | None = None,
    ) -> DeliveryList:
        """List the deliveries of a webhook with their results, newest first."""
        webhooks.find(webhook_id)
        page = deliveries.listed(webhook_id, limit=limit, after=after, status=status)
        return DeliveryList(
            data=[_delivery(row) for row in page.rows],
            has_more=page.has_more,
            last_id=page.last.id if page.last else None,
        )

    @routes.get(f"{path}/{{delivery_id}}", operation_id="getDelivery", responses=documented(NotFound))
    def get_delivery(webhook_id: str, delivery_id: str) -> DeliveryDetail:
        """Get one delivery with the body that is sent."""
        row = deliveries.find(webhook_id, delivery_id)
        return DeliveryDetail(**_delivery(row).model_dump(), body=row.body)

    @routes.post(
        f"{path}/{{delivery_id}}/redeliver",
        operation_id="redeliver",
        status_code=202,
        responses=documented(NotFound, Conflict, Unavailable),
    )
    def redeliver(webhook_id: str, delivery_id: str, response: Response) -> DeliveryView:
        """Send it again now, whatever its result was. It keeps its id, so that a receiver can recognise it."""
        return _queued(deliveries.redeliver(webhook_id, delivery_id), response)

    return routes


def _queued(row: Delivery, response: Response) -> DeliveryView:
    response.headers["Location"] = f"{ROOT}/webhooks/{row.webhook_id}/deliveries/{row.id}"
    return _delivery(row)


def _view(row: Webhook) -> WebhookView:
    return WebhookView(
        id=row.id,
        team=row.team,
        name=row.name,
        url=row.url,
        types=row.types,
        active=row.active,
        inactive_reason=row.inactive_reason,
        failing_since=row.failing_since,
        failures=row.failures,
        last_delivered_at=row.last_delivered_at,
        old_secret_until=row.old_secret_until,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _delivery(row: Delivery) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        webhook_id=row.webhook_id,
        type=row.type,
        status=row.status,
        attempts=row.attempts,
        response_status=row.response_status,
        response_body=row.response_body,
        error=row.error,
        attempted_at=row.attempted_at,
        next_attempt_at=row.due_at if row.ended_at is None else None,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
