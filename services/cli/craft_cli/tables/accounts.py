"""Tables of API keys, teams and the audit log."""

from collections.abc import Sequence

from rich.table import Table

from craft.contracts.public.accounts import AuditEntry, KeyView, TeamView
from craft_cli.tables.cells import text_table, time_of


def keys(views: Sequence[KeyView]) -> Table:
    """One row for each key."""
    rows = (
        (v.id, v.name, v.role.value, "revoked" if v.revoked_at else "", time_of(v.expires_at), time_of(v.last_used_at))
        for v in views
    )
    return text_table(("id", "name", "role", "state", "ends", "last used"), rows)


def teams(views: Sequence[TeamView]) -> Table:
    """One row for each team."""
    rows = (
        (v.name, f"{v.weight:g}", _limit(v.max_running_jobs), _limit(v.gpu_seconds_per_day), v.running_jobs)
        for v in views
    )
    return text_table(("team", "weight", "most jobs", "GPU seconds a day", "running"), rows)


def audit(views: Sequence[AuditEntry]) -> Table:
    """One row for each entry."""
    rows = ((time_of(v.created_at), v.actor or "the system", v.type, v.subject) for v in views)
    return text_table(("at", "who", "what", "of"), rows)


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"
