"""`craft webhooks …`: where the team's events are sent, and what came of it."""

from typing import Annotated

import typer

from craft.contracts.public.webhooks import DeliveryStatus, SecretView
from craft_cli.session import Session, fail, remote
from craft_cli.tables import webhooks

app = typer.Typer(no_args_is_help=True, help="Addresses of yours that hear of the team's events.")
WebhookId = Annotated[str, typer.Argument(help="hook_…", show_default=False)]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="job.succeeded, job.*, * …; may be repeated.", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, max=500)]
After = Annotated[str | None, typer.Option(help="The last id of the page before.")]
_ID = "hook_01jgywz3x4v5q6r7s8t9vawbxc"


@remote(
    app, "create", example="craft webhooks create https://hooks.example.com/craft --type job.failed --type adapter.*"
)
def create(
    session: Session,
    target: Annotated[str, typer.Argument(help="An https address.", show_default=False)],
    *,
    types: Types = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Have events sent to an address, by default job.*; print its id and its secret, which cannot be shown again."""
    _secret(session, session.client.webhooks.create(target, types=types or None, name=name))


@remote(app, "ls", example="craft webhooks ls")
def list_webhooks(session: Session, *, limit: Limit = 20, after: After = None) -> None:
    """List the team's webhooks, newest first."""
    found = session.client.webhooks.list(limit=limit, after=after)
    session.show(found, webhooks.webhooks(found.data))


@remote(app, example=f"craft webhooks get {_ID}")
def get(session: Session, webhook_id: WebhookId) -> None:
    """Show one webhook."""
    view = session.client.webhooks.get(webhook_id)
    session.show(view, webhooks.webhooks([view]), *webhooks.state(view))


@remote(app, "rm", example=f"craft webhooks rm {_ID}")
def remove(session: Session, webhook_id: WebhookId) -> None:
    """Send nothing more to a webhook, and forget it."""
    session.client.webhooks.delete(webhook_id)
    session.show({"id": webhook_id, "deleted": True}, "deleted")


@remote(app, "set", example=f"craft webhooks set {_ID} --active --type job.*")
def change(
    session: Session,
    webhook_id: WebhookId,
    *,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="On or off.", show_default=False)] = None,
    types: Types = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
) -> None:
    """Switch a webhook on or off, choose other events, or rename it; what is left out stays."""
    if active is None and not types and name is None:
        fail("Say what to change: --active, --inactive, --type or --name.", as_json=session.as_json)
    view = session.client.webhooks.change(webhook_id, active=active, types=types or None, name=name)
    session.show(view, webhooks.webhooks([view]), *webhooks.state(view))


@remote(app, example=f"craft webhooks test {_ID}")
def test(session: Session, webhook_id: WebhookId) -> None:
    """Send a message of type webhook.test; print its id for `craft webhooks deliveries`."""
    view = session.client.webhooks.test(webhook_id)
    session.show(view, view.id)


@remote(app, example=f"craft webhooks deliveries {_ID} --status failed")
def deliveries(
    session: Session,
    webhook_id: WebhookId,
    delivery_id: Annotated[str | None, typer.Argument(help="dlvr_…, to see one with its body.")] = None,
    *,
    limit: Limit = 20,
    after: After = None,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only those.")] = None,
) -> None:
    """List what was sent, newest first, or show one message with its body and the last answer."""
    if delivery_id is not None:
        one = session.client.webhooks.delivery(webhook_id, delivery_id)
        session.show(one, webhooks.deliveries([one]), *webhooks.exchange(one))
        return
    found = session.client.webhooks.deliveries(webhook_id, limit=limit, after=after, status=status)
    session.show(found, webhooks.deliveries(found.data))


@remote(app, example=f"craft webhooks redeliver {_ID} dlvr_01jgywz3x4v5q6r7s8t9vawbxc")
def redeliver(
    session: Session,
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(help="dlvr_…", show_default=False)],
) -> None:
    """Send a message again at once, whatever became of it."""
    view = session.client.webhooks.redeliver(webhook_id, delivery_id)
    session.show(view, view.status.value)


@remote(app, example=f"craft webhooks rotate {_ID}")
def rotate(session: Session, webhook_id: WebhookId) -> None:
    """Make a new secret and print it; it cannot be shown again. The one before signs for a day too."""
    _secret(session, session.client.webhooks.rotate_secret(webhook_id))


def _secret(session: Session, made: SecretView) -> None:
    session.show(made, made.id, made.secret)
