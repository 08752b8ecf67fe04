"""Tables of webhooks and their deliveries."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from craft.contracts.public.webhooks import DeliveryDetail, DeliveryView, WebhookView
from craft_cli.tables.cells import text_table, time_of


def webhooks(views: Sequence[WebhookView]) -> Table:
    """One row for each webhook."""
    rows = ((v.id, v.name, "on" if v.active else "off", ", ".join(v.types), v.url) for v in views)
    return text_table(("id", "name", "state", "events", "address"), rows)


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


def deliveries(views: Sequence[DeliveryView]) -> Table:
    """One row for each message."""
    rows = (
        (
            v.id,
            v.type,
            v.status.value,
            v.attempts,
            v.error or v.response_status,
            time_of(v.next_attempt_at or v.attempted_at),
        )
        for v in views
    )
    return text_table(("id", "event", "status", "attempts", "answer", "next or last attempt"), rows)


def exchange(view: DeliveryDetail) -> Iterator[str]:
    """The body that is sent, and the response to it."""
    yield f"sent: {view.body}"
    if view.response_status is not None:
        yield f"answered {view.response_status}: {view.response_body or ''}".rstrip()
