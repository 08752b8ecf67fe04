"""`craft webhooks …`: the addresses that get the team's events, and the deliveries."""

from typing import Annotated

import typer

from craft.contracts.public.webhooks import DeliveryStatus, SecretView
from craft_cli.failures import fail
from craft_cli.session import Session, server_command
from craft_cli.tables import webhooks

app = typer.Typer(no_args_is_help=True, help="Addresses that get the team's events.")
WebhookId = Annotated[str, typer.Argument(help="hook_…", show_default=False)]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="job.succeeded, job.*, * …; may be repeated.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=500)]
After = Annotated[str | None, typer.Option(help="The last id of the page before.")]
_ID = "hook_01jgywz3x4v5q6r7s8t9vawbxc"


@server_command(
    app, "create", example="craft webhooks create https://hooks.example.com/craft --type job.failed --type adapter.*"
)
def create(
    session: Session,
    target: Annotated[str, typer.Argument(help="An https address.", show_default=False)],
    *,
    types: Types = None,
    name: Annotated[str | None, typer.Option(help="The purpose of the webhook.")] = None,
) -> None:
    """Send events to an address, by default job.*. Prints its id and its secret, which cannot be shown again."""
    _show_secret(session, session.client.webhooks.create(target, types=types or None, name=name))


@server_command(app, "ls", example="craft webhooks ls")
def list_webhooks(session: Session, *, limit: Limit = 20, after: After = None) -> None:
    """List the team's webhooks, newest first."""
    page = session.client.webhooks.list(limit=limit, after=after)
    session.show(page, webhooks.webhooks(page.data))


@server_command(app, example=f"craft webhooks get {_ID}")
def get(session: Session, webhook_id: WebhookId) -> None:
    """Show one webhook."""
    view = session.client.webhooks.get(webhook_id)
    session.show(view, webhooks.webhooks([view]), *webhooks.state(view))


@server_command(app, "rm", example=f"craft webhooks rm {_ID}")
def remove(session: Session, webhook_id: WebhookId) -> None:
    """Delete a webhook. Messages that wait for it are not sent."""
    session.client.webhooks.delete(webhook_id)
    session.show({"id": webhook_id, "deleted": True}, "deleted")


@server_command(app, "set", example=f"craft webhooks set {_ID} --active --type job.*")
def change(
    session: Session,
    webhook_id: WebhookId,
    *,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="On or off.", show_default=False)] = None,
    types: Types = None,
    name: Annotated[str | None, typer.Option(help="The purpose of the webhook.")] = None,
) -> None:
    """Switch a webhook on or off, choose other events, or rename it. Omitted options change nothing."""
    if active is None and not types and name is None:
        fail("Say what to change: --active, --inactive, --type or --name.", as_json=session.as_json)
    view = session.client.webhooks.change(webhook_id, active=active, types=types or None, name=name)
    session.show(view, webhooks.webhooks([view]), *webhooks.state(view))


@server_command(app, example=f"craft webhooks test {_ID}")
def test(session: Session, webhook_id: WebhookId) -> None:
    """Send a message of type webhook.test, and print its id for `craft webhooks deliveries`."""
    view = session.client.webhooks.test(webhook_id)
    session.show(view, view.id)


@server_command(app, example=f"craft webhooks deliveries {_ID} --status failed")
def deliveries(
    session: Session,
    webhook_id: WebhookId,
    delivery_id: Annotated[str | None, typer.Argument(help="dlvr_…, to show one message with its body.")] = None,
    *,
    limit: Limit = 20,
    after: After = None,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only messages with this status.")] = None,
) -> None:
    """List messages, newest first, or show one message with its body and the last response."""
    if delivery_id is not None:
        delivery = session.client.webhooks.delivery(webhook_id, delivery_id)
        session.show(delivery, webhooks.deliveries([delivery]), *webhooks.exchange(delivery))
        return
    page = session.client.webhooks.deliveries(webhook_id, limit=limit, after=after, status=status)
    session.show(page, webhooks.deliveries(page.data))


@server_command(app, example=f"craft webhooks redeliver {_ID} dlvr_01jgywz3x4v5q6r7s8t9vawbxc")
def redeliver(
    session: Session,
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(help="dlvr_…", show_default=False)],
) -> None:
    """Send a message again at once, whatever its status."""
    view = session.client.webhooks.redeliver(webhook_id, delivery_id)
    session.show(view, view.status.value)


@server_command(app, example=f"craft webhooks rotate {_ID}")
def rotate(session: Session, webhook_id: WebhookId) -> None:
    """Make a new secret and print it; it cannot be shown again. The old one also signs for one more day."""
    _show_secret(session, session.client.webhooks.rotate_secret(webhook_id))


def _show_secret(session: Session, view: SecretView) -> None:
    session.show(view, view.id, view.secret)
