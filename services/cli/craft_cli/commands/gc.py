"""`craft gc`"""

from typing import Annotated

import typer

from craft.contracts.public.retention import ExpiredView, GcView
from craft_cli.session import Session, server_command
from craft_cli.tables.cells import size
from craft_cli.tables.retention import expired
from craft_client import Client

app = typer.Typer()


@server_command(app, example="craft gc --dry-run")
def gc(
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run/--now", help="Only show what has expired, or remove it.")] = True,
) -> None:
    """Show what has expired in the artifact store, or remove it.

    Datasets are kept, and so is all that unfinished, pinned or deployed jobs use.

    The server itself collects garbage every hour, with the lifetimes of its CRAFT_RETENTION__… settings.
    """
    view = session.client.gc() if dry_run else _remove_all(session.client)
    lines: list[object] = [expired(view.data)] if view.data else []
    verb = "would go" if dry_run else "removed"
    more = "at least " if view.has_more else ""
    lines.append(f"{verb}: {more}{view.total:,} ({size(view.total_bytes)})")
    if dry_run and view.data:
        lines.append("Remove it with `craft gc --now`.")
    session.show(view, *lines)


def _remove_all(client: Client) -> GcView:
    """Remove all that has expired, in as many calls as needed."""
    data: list[ExpiredView] = []
    more = True
    while more:
        page = client.gc(dry_run=False)
        data += page.data
        more = page.has_more
    total_bytes = sum(view.bytes for view in data)
    return GcView(dry_run=False, data=data, total=len(data), total_bytes=total_bytes, has_more=False)
