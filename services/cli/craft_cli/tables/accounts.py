"""Tables of API keys, teams and the audit log."""

from collections.abc import Sequence
from datetime import datetime

from craft.contracts.public.accounts import AuditEntry, KeyView, TeamView
from craft_cli.tables.cells import age, text_table, time_of
from craft_cli.tables.plain import Fit, PlainTable


def keys(views: Sequence[KeyView], *, now: datetime) -> PlainTable:
    """One row for each key."""
    rows = (
        (
            v.name,
            v.role.value,
            _state(v, now),
            f"in {age(v.expires_at, now)}" if v.expires_at and v.expires_at > now else "",
            f"{age(v.last_used_at, now)} ago" if v.last_used_at else "never",
            v.id,
        )
        for v in views
    )
    return text_table(("name", "role", "state", "ends", "used", "id"), rows)


def teams(views: Sequence[TeamView]) -> PlainTable:
    """One row for each team."""
    rows = (
        (
            v.name,
            f"{v.weight:g}",
            v.running_jobs,
            _limit(v.max_running_jobs),
            _limit(v.max_unfinished_jobs),
            _limit(v.gpu_seconds_per_day),
            _limit(v.gpu_seconds_per_job),
        )
        for v in views
    )
    headings = ("team", "weight", "running", "most running", "most unfinished", "GPU s a day", "GPU s a job")
    return text_table(headings, rows)


def audit(views: Sequence[AuditEntry]) -> PlainTable:
    """One row for each entry."""
    rows = ((time_of(v.created_at), v.actor or "the system", v.type, v.subject) for v in views)
    return text_table(("at", "who", "what", "of"), rows, fits={"of": Fit.BELOW})


def _state(view: KeyView, now: datetime) -> str:
    if view.revoked_at is not None:
        return "revoked"
    return "expired" if view.expires_at is not None and view.expires_at <= now else ""


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"
