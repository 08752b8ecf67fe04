"""Tables of webhooks and their deliveries."""

from collections.abc import Iterator, Sequence

from craft.contracts.public.webhooks import DeliveryDetail, DeliveryView, WebhookView
from craft_cli.tables.cells import text_table, time_of
from craft_cli.tables.plain import Fit, PlainTable


def webhooks(views: Sequence[WebhookView]) -> PlainTable:
    """One row for each webhook."""
    rows = ((v.name, "on" if v.active else "off", v.id, ", ".join(v.types), v.url) for v in views)
    below = {"events": Fit.BELOW, "address": Fit.BELOW}
    return text_table(("name", "state", "id", "events", "address"), rows, fits=below)


def state(view: WebhookView) -> Iterator[str]:
    """Lines for what does not fit into the table: the reason why it is off, its failures, and its old secret."""
    if view.inactive_reason:
        yield f"off: {view.inactive_reason}"
    if view.failing_since:
        yield f"fails since {time_of(view.failing_since)}, {view.failures} attempts in a row"
    if view.last_delivered_at:
        yield f"last delivered {time_of(view.last_delivered_at)}"
    if view.old_secret_until:
        yield f"the secret before signs too until {time_of(view.old_secret_until)}"


def deliveries(views: Sequence[DeliveryView]) -> PlainTable:
    """One row for each message."""
    rows = (
        (
            v.id,
            v.type,
            v.status.value,
            v.attempts,
            time_of(v.next_attempt_at or v.attempted_at),
            v.error or v.response_status,
        )
        for v in views
    )
    fits = {"attempts": Fit.IF_ROOM, "next or last attempt": Fit.IF_ROOM, "answer": Fit.BELOW}
    return text_table(("id", "event", "status", "attempts", "next or last attempt", "answer"), rows, fits=fits)


def exchange(view: DeliveryDetail) -> Iterator[str]:
    """The body that is sent, and the response to it."""
    yield f"sent: {view.body}"
    if view.response_status is not None:
        yield f"answered {view.response_status}: {view.response_body or ''}".rstrip()
