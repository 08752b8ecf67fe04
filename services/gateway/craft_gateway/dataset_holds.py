"""Datasets that unfinished jobs read: they are not deleted, and no job begins with one that just was."""

from collections.abc import Container, Iterable
from collections.abc import Set as AbstractSet

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from craft.contracts.job import JobStatus
from craft.errors import RequestInvalid
from craft_gateway.plan import ResolvedJob
from craft_gateway.tables import Dataset, Job

_HELD = (
    columns(col(Dataset.id))
    .where(col(Dataset.id).in_(bindparam("wanted", expanding=True)))
    .order_by(col(Dataset.id))
    .with_for_update(read=True)
)
_UNFINISHED = [status for status in JobStatus if not status.terminal]


def hold_datasets(session: Session, jobs: Iterable[ResolvedJob]) -> AbstractSet[str]:
    """Those of the jobs' datasets that are there; until the transaction's end nobody deletes them."""
    wanted = {dataset_id for job in jobs for dataset_id in job.datasets}
    return {row.id for row in session.connection().execute(_HELD, {"wanted": list(wanted)})}


def missing_dataset(job: ResolvedJob, held: Container[str]) -> RequestInvalid | None:
    """What to say where one is missing."""
    for dataset_id in job.datasets:
        if dataset_id not in held:
            return RequestInvalid(
                f"There is no dataset {dataset_id}.", hint="`GET /craft/datasets` lists them.", param="dataset.id"
            )
    return None


def jobs_reading(session: Session, dataset: Dataset) -> list[str]:
    """Unfinished jobs of its team that read it, the oldest first."""
    query = select(Job.id, Job.resolved).where(Job.team == dataset.team, col(Job.status).in_(_UNFINISHED))
    found = session.exec(query.order_by(col(Job.id))).all()
    return [job_id for job_id, resolved in found if dataset.id in _named(resolved["spec"])]


def _named(spec: dict[str, object]) -> list[object]:
    """The ids in a specification as it is stored."""
    main, further = spec.get("dataset"), spec.get("evaluation")
    ids = [main.get("id")] if isinstance(main, dict) else []
    return [*ids, *(each.get("dataset") for each in further)] if isinstance(further, list) else ids
