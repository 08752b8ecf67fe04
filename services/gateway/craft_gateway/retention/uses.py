"""Finds the uses of artifacts: which rows need them, and when a job last used them. Expiry counts from the last use."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, case, cast, func, literal, null, or_, select, union_all
from sqlalchemy.orm import Mapped, aliased
from sqlmodel import Session, col

from craft.contracts.events import StageStatus
from craft.contracts.public.publishing import PublicationStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import FACTS
from craft.errors import NotFound
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.store.column_types import UtcDateTime
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Dataset, Deployment, Job, Publication, Stage

_UNFINISHED = tuple(status for status in StageStatus if not status.terminal)
_USED = "used"
_Marks = Select[*tuple[Any, ...]]
"""Rows of key, mark and moment."""
_NO_MOMENT = cast(null(), UtcDateTime())


class KeptBy(StrEnum):
    """A reason why an artifact does not expire yet."""

    JOB = "job"
    """A job that computed or reused it has not ended, or has a stage that still runs."""
    STAGE = "stage"
    """An unfinished stage has the same key: it may reuse the artifact at any moment."""
    PIN = "pin"
    DEPLOYMENT = "deployment"
    PUBLICATION = "publication"
    """A publication of it waits or runs."""
    DATASET = "dataset"


@dataclass(frozen=True, slots=True)
class Use:
    """The use of an artifact. `last_used_at`: the end of the last job that used it; None if none has ended."""

    last_used_at: datetime | None = None
    kept_by: frozenset[KeptBy] = frozenset()

    def expires_at(self, lifetime: timedelta | None) -> datetime | None:
        """Return the time of expiry; None while the artifact is kept, or where no job used it."""
        if self.kept_by or self.last_used_at is None or lifetime is None:
            return None
        return self.last_used_at + lifetime


def uses(session: Session, keys: Collection[str]) -> dict[str, Use]:
    """Return the use of each key's artifact."""
    use_of = {key: Use() for key in keys}
    if not use_of:
        return use_of
    # One statement: two could both miss a stage that ends between them.
    for key, mark, moment in session.connection().execute(_marks(list(use_of))):
        use = use_of[key]
        kept_by = use.kept_by if mark == _USED else use.kept_by | {KeptBy(mark)}
        last_used_at = max(filter(None, (use.last_used_at, moment)), default=None)
        use_of[key] = Use(last_used_at, kept_by)
    return use_of


def keys_of_unfinished_stages(session: Session, keys: Collection[str]) -> set[str]:
    """Return those of the keys that an unfinished stage has."""
    return {key for key, *_ in session.connection().execute(_of_unfinished_stages(keys))}


def lock_artifact(session: Session, ref: ArtifactRef) -> None:
    """Lock the artifact before a row that uses it is written: the garbage collector then waits, and sees the row.

    Raises NotFound if the collector was first.
    """
    lock_key(session, ref.key)
    if session.get(Artifact, ref.key) is None:
        raise NotFound("The adapter has expired.", hint="Retry the job: it reuses the artifacts that still exist.")


def _marks(keys: Collection[str]) -> Any:
    return union_all(
        _of_jobs(keys),
        _of_unfinished_stages(keys),
        select(col(Deployment.artifact_key), literal(KeptBy.DEPLOYMENT.value), _NO_MOMENT).where(
            col(Deployment.artifact_key).in_(keys)
        ),
        *(_of_publications(key, keys) for key in (col(Publication.artifact_key), col(Publication.evaluation_key))),
        # A dataset's key equals its content hash, which has an index.
        select(col(Dataset.content_hash), literal(KeptBy.DATASET.value), _NO_MOMENT).where(
            col(Dataset.content_hash).in_(keys)
        ),
    )


def _of_publications(key: Mapped[str], keys: Collection[str]) -> _Marks:
    return select(key, literal(KeptBy.PUBLICATION.value), _NO_MOMENT).where(
        key.in_(keys), col(Publication.status).in_([PublicationStatus.QUEUED, PublicationStatus.RUNNING])
    )


def _of_jobs(keys: Collection[str]) -> _Marks:
    """Select each mark that jobs give a key, once, with the latest end of these jobs."""
    sibling = aliased(Stage)
    running = select(col(sibling.id)).where(
        col(sibling.job_id) == col(Job.id), col(sibling.status) == StageStatus.RUNNING
    )
    mark = case(
        (or_(col(Job.finished_at).is_(None), running.exists()), KeptBy.JOB.value),
        (col(Job.pinned).is_(True), KeptBy.PIN.value),
        else_=_USED,
    )
    used = (
        select(col(Stage.artifact_key).label("key"), mark.label("mark"), col(Job.finished_at).label("moment"))
        .join(Job, col(Job.id) == col(Stage.job_id))
        .where(col(Stage.artifact_key).in_(keys))
        .subquery()
    )
    return select(used.c.key, used.c.mark, func.max(used.c.moment)).group_by(used.c.key, used.c.mark)


def _of_unfinished_stages(keys: Collection[str]) -> _Marks:
    return (
        select(col(Stage.key), literal(KeptBy.STAGE.value), _NO_MOMENT)
        .where(col(Stage.key).in_(keys), col(Stage.status).in_(_UNFINISHED))
        .distinct()
    )


def expiries(session: Session, stages: Iterable[Stage], settings: RetentionSettings) -> dict[str, datetime | None]:
    """Return by key when the artifacts of these stages expire; None while they are kept. Takes one query."""
    kinds = {stage.artifact_key: stage.kind for stage in stages if stage.artifact_key is not None}
    return {
        key: use.expires_at(settings.lifetime(FACTS[kinds[key]].retention)) for key, use in uses(session, kinds).items()
    }
