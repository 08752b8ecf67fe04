"""`craft gc`"""

from typing import Annotated

import typer

from craft.contracts.public.retention import ExpiredView, GcView
from craft_cli.session import Session, print_table
from craft_cli.tables import listings
from craft_client import Client


def gc(
    session: Session,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run/--now", help="Only show what would go, or remove it.")] = True,
) -> None:
    """Show what has expired in the artifact store, or remove it.

    Datasets are kept, and all that unfinished, pinned or deployed jobs use.

    The server sweeps by itself every hour, with the lifetimes of its CRAFT_RETENTION__… settings.
    """
    found = session.client.gc() if dry_run else _removed(session.client)
    if session.as_json:
        session.show(found)
        return
    if found.data:
        print_table(listings.expired(found.data))
    verb = "would go" if dry_run else "removed"
    more = "at least " if found.has_more else ""
    print(f"{verb}: {more}{found.total:,} ({listings.size(found.total_bytes)})")
    if dry_run and found.data:
        print("Remove it with `craft gc --now`.")


def _removed(client: Client) -> GcView:
    """All of it, over as many calls as it takes."""
    data: list[ExpiredView] = []
    more = True
    while more:
        page = client.gc(dry_run=False)
        data += page.data
        more = page.has_more
    total_bytes = sum(expired.bytes for expired in data)
    return GcView(dry_run=False, data=data, total=len(data), total_bytes=total_bytes, has_more=False)
