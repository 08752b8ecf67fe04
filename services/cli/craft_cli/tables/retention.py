"""The table of expired artifacts."""

from collections.abc import Sequence

from craft.contracts.public.retention import ExpiredView
from craft_cli.tables.cells import size, text_table
from craft_cli.tables.plain import Fit, PlainTable


def expired(views: Sequence[ExpiredView]) -> PlainTable:
    """One row for each expired folder of the artifact store."""
    rows = (
        (
            v.retention_class.value,
            None if v.kind is None else v.kind.value,
            (v.key or "")[:12],
            size(v.bytes),
            f"{v.last_used_at:%Y-%m-%d %H:%M}",
            f"{v.expires_at:%Y-%m-%d %H:%M}",
        )
        for v in views
    )
    return text_table(("class", "made by", "key", "size", "last used", "expired"), rows, fits={"class": Fit.IF_ROOM})
