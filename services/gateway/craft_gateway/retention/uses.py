"""When artifacts were last used, and by which jobs: expiry counts from there."""

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
    """Why something does not expire as yet."""

    JOB = "job"
    """A job made it or took it over that has not ended, or of which a stage still runs."""
    STAGE = "stage"
    """A stage waits or runs that would make the same: it may take it over at any moment."""
    PIN = "pin"
    DEPLOYMENT = "deployment"
    PUBLICATION = "publication"
    """It waits to be published, or just is."""
    DATASET = "dataset"


@dataclass(frozen=True, slots=True)
class Use:
    """What becomes of an artifact. `last_used_at`: the end of the last job that used it, None where none has."""

    last_used_at: datetime | None = None
    kept_by: frozenset[KeptBy] = frozenset()

    def expires_at(self, lifetime: timedelta | None) -> datetime | None:
        """When its time is over; None while it is kept, or where no job used it."""
        if self.kept_by or self.last_used_at is None or lifetime is None:
            return None
        return self.last_used_at + lifetime


def uses(session: Session, keys: Collection[str]) -> dict[str, Use]:
    """Of each key, who needs its artifact."""
    found = {key: Use() for key in keys}
    if not found:
        return found
    # One statement: between two, a stage that just ends could be overlooked by both.
    for key, mark, moment in session.connection().execute(_marks(list(found))):
        use = found[key]
        kept_by = use.kept_by if mark == _USED else use.kept_by | {KeptBy(mark)}
        last_used_at = max(filter(None, (use.last_used_at, moment)), default=None)
        found[key] = Use(last_used_at, kept_by)
    return found


def waited_for(session: Session, keys: Collection[str]) -> set[str]:
    """Those of the keys that an unfinished stage has."""
    return {key for key, *_ in session.connection().execute(_waited_for(keys))}


def lock_artifact(session: Session, ref: ArtifactRef) -> None:
    """Before a row that uses the artifact is written: the garbage collector then waits, and sees the row.

    Raises NotFound where it came first.
    """
    lock_key(session, ref.key)
    if session.get(Artifact, ref.key) is None:
        raise NotFound("The adapter has expired.", hint="Retry the job: what is still there is used again.")


def _marks(keys: Collection[str]) -> Any:
    return union_all(
        _of_jobs(keys),
        _waited_for(keys),
        select(col(Deployment.artifact_key), literal(KeptBy.DEPLOYMENT.value), _NO_MOMENT).where(
            col(Deployment.artifact_key).in_(keys)
        ),
        *(_to_be_published(key, keys) for key in (col(Publication.artifact_key), col(Publication.evaluation_key))),
        # A dataset's key is its content's hash, and that has an index.
        select(col(Dataset.content_hash), literal(KeptBy.DATASET.value), _NO_MOMENT).where(
            col(Dataset.content_hash).in_(keys)
        ),
    )


def _to_be_published(key: Mapped[str], keys: Collection[str]) -> _Marks:
    return select(key, literal(KeptBy.PUBLICATION.value), _NO_MOMENT).where(
        key.in_(keys), col(Publication.status).in_([PublicationStatus.QUEUED, PublicationStatus.RUNNING])
    )


def _of_jobs(keys: Collection[str]) -> _Marks:
    """What the jobs that used each key say of it, each mark once with the last of these jobs' ends."""
    sibling = aliased(Stage)
    at_work = select(col(sibling.id)).where(
        col(sibling.job_id) == col(Job.id), col(sibling.status) == StageStatus.RUNNING
    )
    mark = case(
        (or_(col(Job.finished_at).is_(None), at_work.exists()), KeptBy.JOB.value),
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


def _waited_for(keys: Collection[str]) -> _Marks:
    return (
        select(col(Stage.key), literal(KeptBy.STAGE.value), _NO_MOMENT)
        .where(col(Stage.key).in_(keys), col(Stage.status).in_(_UNFINISHED))
        .distinct()
    )


def expiries(session: Session, stages: Iterable[Stage], settings: RetentionSettings) -> dict[str, datetime | None]:
    """By key, when what these stages made or took over expires; None while it is kept. One query."""
    kinds = {stage.artifact_key: stage.kind for stage in stages if stage.artifact_key is not None}
    return {
        key: use.expires_at(settings.lifetime(FACTS[kinds[key]].retention)) for key, use in uses(session, kinds).items()
    }
