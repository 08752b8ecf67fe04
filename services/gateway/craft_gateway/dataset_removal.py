"""A dataset is forgotten; what was made of it stays."""

from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.job import JobStatus
from craft.errors import Conflict
from craft_gateway.audit import record
from craft_gateway.database import Database
from craft_gateway.missing import no_dataset
from craft_gateway.plan import ResolvedJob
from craft_gateway.tables import Dataset, Job

_GOING_ON = [status for status in JobStatus if not status.terminal]


def remove_dataset(database: Database, dataset_id: str) -> None:
    """Forget it; its rows go with the next sweep. Raises NotFound, Conflict while a job of the team still needs it."""
    with database.write() as session:
        row = session.get(Dataset, dataset_id, with_for_update=True)
        if row is None:
            raise no_dataset()
        busy = _job_with(session, row)
        if busy is not None:
            raise Conflict(f"The job {busy} still uses it.", hint="Cancel the job, or wait for its end.")
        record(session, database.now(session), row.team, row.id, EventType.DATASET_DELETED, name=row.name)
        session.delete(row)


def _job_with(session: Session, row: Dataset) -> str | None:
    unfinished = select(Job.id, Job.resolved).where(Job.team == row.team, col(Job.status).in_(_GOING_ON))
    for job_id, kept in session.exec(unfinished):
        resolved = ResolvedJob.model_validate(kept)
        if row.ref in {resolved.dataset, *resolved.evaluation.values()}:
            return job_id
    return None
