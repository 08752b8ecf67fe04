"""Tables of jobs, their stages, attempts, events and artifacts."""

from collections.abc import Sequence

from rich.table import Table

from craft.contracts.public.jobs import ArtifactView, AttemptView, EventView, JobView, StageView
from craft_cli.tables.cells import size, text_table, time_of


def jobs(views: Sequence[JobView]) -> Table:
    """One row for each job."""
    return text_table(
        ("id", "name", "status", "percent", "stage", "created"),
        (
            (v.id, v.name, v.status.value, f"{v.progress.percent:.0f} %", v.progress.stage, time_of(v.created_at))
            for v in views
        ),
    )


def stages(views: Sequence[StageView]) -> Table:
    """One row for each stage of a job."""
    return text_table(
        ("stage", "status", "took"),
        (
            (v.name, v.status.value, "reused" if v.reused else "" if v.seconds is None else f"{v.seconds:.1f} s")
            for v in views
        ),
    )


def attempts(views: Sequence[AttemptView]) -> Table:
    """One row for each claim of a stage."""
    return text_table(
        ("stage", "attempt", "outcome", "waited", "took", "worker", "error"),
        (
            (
                v.stage,
                v.attempt,
                v.outcome.value,
                f"{v.waited_seconds:.1f} s",
                "" if v.seconds is None else f"{v.seconds:.1f} s",
                v.owner,
                "" if v.error is None else f"{v.error.code}: {v.error.message}",
            )
            for v in views
        ),
    )


def events(views: Sequence[EventView]) -> Table:
    """One row for each event."""
    rows = ((v.seq, time_of(v.created_at), v.type.value, v.data.get("stage") or "") for v in views)
    return text_table(("number", "at", "event", "stage"), rows)


def artifacts(views: Sequence[ArtifactView]) -> Table:
    """One row for each artifact."""
    rows = ((v.stage, v.kind.value, v.key[:12], size(v.bytes), time_of(v.expires_at)) for v in views)
    return text_table(("stage", "kind", "key", "size", "expires"), rows)
