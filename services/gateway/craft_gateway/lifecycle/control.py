"""The users' changes to jobs: create, cancel, pause, resume, pin. Each method is one transaction.

The artifact store is asked before the transaction: a slow store must not hold a lock.
"""

from collections.abc import Container, Mapping, Sequence

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from craft.contracts.documents.estimate import Estimate
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import Conflict, IdempotencyConflict, Unavailable
from craft_gateway.lifecycle.creation import (
    NO_ORIGIN,
    CreatedJob,
    Idempotency,
    NewJob,
    Origin,
    earlier_jobs,
    store_jobs,
)
from craft_gateway.lifecycle.job_transaction import JobTransaction, job_transaction
from craft_gateway.lifecycle.reuse import ArtifactExists, reusable, reusable_of_plan, stages_of, used_by_team
from craft_gateway.lifecycle.transitions import cancel, pause, resume
from craft_gateway.plan.stages import PlannedStage, ResolvedJob, plan
from craft_gateway.store.database import Database, lock_key


class JobControl:
    """Together with `WorkerCalls` and `Maintenance` the only writer of jobs and stages."""

    def __init__(self, database: Database, *, exists: ArtifactExists) -> None:
        self._database = database
        self._exists = exists

    def reusable(self, stages: Sequence[PlannedStage], *, recompute: Container[str] = ()) -> Mapping[str, ArtifactRef]:
        """Artifacts that a new job with these stages can reuse, by stage name, except those of `recompute`."""
        with self._database.read() as session:
            return reusable_of_plan(session, stages, self._exists, recompute=recompute)

    def used_by_team(self, team: str, found: Mapping[str, ArtifactRef]) -> Mapping[str, ArtifactRef]:
        """Those of the artifacts that a job of the team made or took over before, by stage name."""
        with self._database.read() as session:
            return used_by_team(session, team, found)

    def earlier_job(self, idempotency: Idempotency | None) -> CreatedJob | None:
        """The job that an earlier request with this key made. Raises IdempotencyConflict if its body was another."""
        [earlier] = self.earlier_jobs([idempotency])
        if isinstance(earlier, Exception):
            raise earlier
        return earlier

    def earlier_jobs(self, keys: Sequence[Idempotency | None]) -> list[CreatedJob | IdempotencyConflict | None]:
        """The same for several requests; an error is given, not raised."""
        if not any(keys):
            return [None] * len(keys)
        with self._database.read() as session:
            return earlier_jobs(session, keys)

    def create_job(
        self,
        job: ResolvedJob,
        *,
        reused: Mapping[str, ArtifactRef] | None = None,
        origin: Origin = NO_ORIGIN,
        idempotency: Idempotency | None = None,
        new_data: bool = False,
        estimate: Estimate | None = None,
    ) -> CreatedJob:
        """Plan the job and store it: see `create_jobs` for what it raises. `reused` is looked up where it is None."""
        stages = plan(job)
        if reused is None:
            reused = self.reusable(stages, recompute=origin.recompute)
        new = NewJob(job, stages, reused, origin=origin, idempotency=idempotency, new_data=new_data, estimate=estimate)
        [created] = self.create_jobs([new])
        if isinstance(created, Exception):
            raise created
        return created

    def create_jobs(self, new: Sequence[NewJob]) -> list[CreatedJob | Exception]:
        """Store each job with its stages and dispatch what can run, in one transaction; or give its error.

        That is IdempotencyConflict where the same key came with another body, with `new_data` RequestInvalid where a
        dataset was deleted meanwhile, and Unavailable where the database does not answer.
        """
        if not new:
            return []
        try:
            with self._database.write() as session:
                return [*store_jobs(session, self._database.now, new)]
        except Unavailable as error:
            return [error] * len(new)
        except Exception as error:
            # Nothing was stored. One job's error must not fail the others.
            if len(new) > 1:
                return [outcome for each in new for outcome in self.create_jobs([each])]
            if isinstance(error, IntegrityError) and new[0].idempotency is not None:
                # PostgreSQL lets two requests with one key get this far; the second finds the first one's job.
                with self._database.read() as session:
                    [earlier] = earlier_jobs(session, [new[0].idempotency])
                return [earlier or error]
            return [error]

    def cancel(self, job_id: str) -> JobStatus:
        """Ask for the job's end: `cancelling` while a worker still has a stage, then `cancelled`.

        A job that has ended already stays as it is, and its status is returned. Raises NotFound.
        """
        with job_transaction(self._database, job_id) as transaction:
            if not transaction.job.status.terminal and transaction.job.status is not JobStatus.CANCELLING:
                cancel(transaction)
            return transaction.job.status

    def pause(self, job_id: str) -> JobStatus:
        """Start nothing more of the job: `pausing` while a worker still has a stage, then `paused`.

        One that pauses already stays as it is. Raises NotFound, Conflict if the job ends or has ended.
        """
        with job_transaction(self._database, job_id) as transaction:
            if transaction.job.status.schedulable:
                pause(transaction)
            elif not transaction.job.status.pause_requested:
                raise Conflict(f"The job is {transaction.job.status.value}; only one that waits or runs can be paused.")
            return transaction.job.status

    def resume(self, job_id: str) -> JobStatus:
        """Go on where the job was paused. One that was not stays as it is. Raises NotFound, Conflict if it ended."""
        with self._database.read() as session:
            cached = reusable(session, stages_of(session, job_id), self._exists)
        with job_transaction(self._database, job_id) as transaction:
            if transaction.job.status.pause_requested:
                resume(transaction, cached)
            elif not transaction.job.status.schedulable:
                raise Conflict(
                    f"The job is {transaction.job.status.value}; only a paused one can be resumed.",
                    hint="`retry` makes a new job of one that has ended.",
                )
            return transaction.job.status

    def pin(self, job_id: str) -> None:
        """Keep the job's artifacts; those that expired before are gone. Raises NotFound."""
        with self._database.write() as session:
            self._set(session, job_id, pinned=True)

    def unpin(self, job_id: str) -> None:
        """Let its artifacts expire like any other job's; garbage collection removes overdue ones. Raises NotFound."""
        with self._database.write() as session:
            self._set(session, job_id, pinned=False)

    def _set(self, session: Session, job_id: str, *, pinned: bool) -> None:
        transaction = JobTransaction.open(session, self._database.now, job_id)
        if transaction.job.pinned is pinned:
            return
        # Garbage collection that looks at one of them now ends first, or sees the pin.
        for key in sorted({stage.artifact_key for stage in transaction.stages if stage.artifact_key}):
            lock_key(session, key)
        transaction.job.pinned = pinned
        transaction.job.updated_at = transaction.now
