"""Jobs in a terminal: their stages, attempts, events, artifacts and publications."""

from collections.abc import Sequence
from datetime import datetime

from craft.contracts.public.jobs import ArtifactView, AttemptView, EventView, JobView, StageView
from craft.contracts.public.publishing import MlflowTarget, PublicationView
from craft_cli.tables.cells import age, size, text_table, time_of
from craft_cli.tables.plain import Fit, PlainTable


def jobs(views: Sequence[JobView], *, now: datetime) -> PlainTable:
    """One row for each job."""
    return text_table(
        ("name", "status", "done", "age", "stage", "id"),
        (
            (v.name, v.status.value, f"{v.progress.percent:.0f}%", age(v.created_at, now), v.progress.stage, v.id)
            for v in views
        ),
        fits={"stage": Fit.IF_ROOM},
    )


def stages(views: Sequence[StageView]) -> PlainTable:
    """One row for each stage of a job."""
    return text_table(
        ("stage", "status", "took"),
        (
            (v.name, v.status.value, "reused" if v.reused else "" if v.seconds is None else f"{v.seconds:.1f} s")
            for v in views
        ),
    )


def attempts(views: Sequence[AttemptView]) -> PlainTable:
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


def events(views: Sequence[EventView]) -> PlainTable:
    """One row for each event."""
    rows = ((v.seq, time_of(v.created_at), v.type.value, v.data.get("stage") or "") for v in views)
    return text_table(("number", "at", "event", "stage"), rows)


def artifacts(views: Sequence[ArtifactView]) -> PlainTable:
    """One row for each artifact."""
    rows = ((v.stage, v.kind.value, v.key[:12], size(v.bytes), time_of(v.expires_at)) for v in views)
    return text_table(("stage", "kind", "key", "size", "expires"), rows, fits={"kind": Fit.IF_ROOM})


def publication_line(view: PublicationView) -> str:
    """One line: the target, the status, and the address or the reason for a failure."""
    target = view.target
    name = target.model_name if isinstance(target, MlflowTarget) else target.repo
    detail = f"{view.url} ({view.version})" if view.url else ""
    if view.error is not None:
        detail = " ".join(filter(None, (f"{view.error.code}: {view.error.message}", view.error.hint)))
    return f"{view.id} {target.kind}:{name} {view.strategy} {view.status} {detail}".rstrip()
