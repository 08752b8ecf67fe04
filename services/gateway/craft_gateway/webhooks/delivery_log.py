"""Lists the deliveries of a webhook, sends one again, and sends test messages."""

import re

from sqlmodel import Session, col, select

from craft.contracts.public.webhooks import DELIVERY_ID, TEST_TYPE, DeliveryStatus
from craft.errors import Conflict
from craft_gateway.access.owners import no_delivery, no_webhook
from craft_gateway.events import DELIVERY_LIFETIME, message, new_delivery
from craft_gateway.store.database import Database
from craft_gateway.store.paging import ListPage, read_page
from craft_gateway.store.tables import Delivery, Webhook

# A receiver that cannot read Unicode should fail now.
_TEST_MESSAGE = "It works. Ça marche. 可以了。"


class DeliveryLog:
    """The deliveries of all webhooks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def listed(
        self, webhook_id: str, *, limit: int, after: str | None, status: DeliveryStatus | None
    ) -> ListPage[Delivery]:
        """A page of a webhook's deliveries, newest first."""
        query = select(Delivery).where(Delivery.webhook_id == webhook_id)
        if status is not None:
            query = query.where(Delivery.status == status)
        if after is not None:
            query = query.where(col(Delivery.id) < after)
        with self._database.read() as session:
            return read_page(session, query.order_by(col(Delivery.id).desc()), limit)

    def find(self, webhook_id: str, delivery_id: str) -> Delivery:
        """One delivery of that webhook. Raises NotFound."""
        with self._database.read() as session:
            return _find(session, webhook_id, delivery_id)

    def test(self, webhook_id: str) -> Delivery:
        """Queue a test message. Raises NotFound, Conflict if the webhook is off."""
        with self._database.write() as session:
            hook = _active(session, webhook_id)
            now = self._database.now(session)
            data = {
                "subject": hook.id,
                "seq": 0,
                "team": hook.team,
                "details": {"message": _TEST_MESSAGE},
            }
            row = new_delivery(hook.id, TEST_TYPE, message(TEST_TYPE, now, data), now)
            session.add(row)
        return row

    def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Queue a message again, with its old id and for another day.

        Raises NotFound, Conflict if the webhook is off or the message is being sent at this moment.
        """
        with self._database.write() as session:
            _active(session, webhook_id)
            row = _find(session, webhook_id, delivery_id, lock=True)
            now = self._database.now(session)
            if row.leased_until is not None and row.leased_until > now:
                raise Conflict("It is being sent at this moment.", hint="Look at it again in a minute.")
            row.status = DeliveryStatus.PENDING
            row.due_at = now
            row.give_up_at = now + DELIVERY_LIFETIME
            row.tries = 0
            row.ended_at = None
        return row


def _active(session: Session, webhook_id: str) -> Webhook:
    hook = session.get(Webhook, webhook_id)
    if hook is None:
        raise no_webhook()
    if not hook.active:
        raise Conflict(
            f"The webhook is off: {hook.inactive_reason}.",
            hint='Switch it on first: PATCH /craft/webhooks/{id} with {"active": true}.',
        )
    return hook


def _find(session: Session, webhook_id: str, delivery_id: str, *, lock: bool = False) -> Delivery:
    row = None
    if re.fullmatch(DELIVERY_ID, delivery_id):
        row = session.get(Delivery, delivery_id, with_for_update=lock or None)
    if row is None or row.webhook_id != webhook_id:
        raise no_delivery()
    return row
