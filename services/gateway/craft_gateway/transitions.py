"""Every change of state of jobs and stages. Each method is one transaction, with its events and its hints."""

from collections.abc import Callable
from dataclasses import dataclass

from craft.contracts.job import JobStatus
from craft.contracts.stages import ArtifactRef, Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.infra.settings import CoordinatorSettings
from craft_gateway.database import Database
from craft_gateway.plan import ResolvedJob

HoldsArtifact = Callable[[ArtifactRef], bool]
"""Whether the artifact store still has it."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The Idempotency-Key of a request and the SHA-256 (hex) of its body."""

    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`repeated`: the same key and body came before, and this is that job."""

    id: str
    repeated: bool = False


class Transitions:
    """The only writer of jobs and stages."""

    def __init__(self, database: Database, *, holds: HoldsArtifact, settings: CoordinatorSettings) -> None:
        self._database = database
        self._holds = holds
        self._settings = settings

    def create_job(self, job: ResolvedJob, *, idempotency: Idempotency | None = None) -> CreatedJob:
        """Plan the job, store it with its stages and queue what can run.

        Raises IdempotencyConflict where the same key came with another body.
        """
        raise NotImplementedError

    def cancel(self, job_id: str) -> JobStatus:
        """Ask for the job's end: `cancelling` while a worker still has a stage, then `cancelled`.

        A job that has ended already stays as it is, and its status is returned. Raises NotFound.
        """
        raise NotImplementedError

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        """Give the stage to the worker, or None where there is nothing to do. Raises NotFound."""
        raise NotImplementedError

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        """Extend the lease and take in progress and log lines. Raises LeaseLost where the fence is old."""
        raise NotImplementedError

    def complete(self, stage_id: str, complete: Complete) -> None:
        """Adopt the artifact and queue what depends on it. Raises LeaseLost where the fence is old."""
        raise NotImplementedError

    def fail(self, stage_id: str, fail: Fail) -> None:
        """Retry the stage or fail the job. Raises LeaseLost where the fence is old."""
        raise NotImplementedError

    def release(self, stage_id: str, release: Release) -> None:
        """Take the stage back without blame. Raises LeaseLost where the fence is old."""
        raise NotImplementedError

    def reap(self) -> int:
        """Take back stages whose lease has run out; returns how many."""
        raise NotImplementedError

    def sweep(self) -> int:
        """Send hints again for stages that wait too long, and settle those whose artifact exists; returns how many."""
        raise NotImplementedError
