"""Opens the stored outputs of jobs' stages, and says what to do about one that is damaged, lost or expired."""

from pathlib import Path

from sqlmodel import Session

from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import ArtifactDamaged, NotFound
from craft.infra.storage.artifacts import ArtifactStore
from craft_gateway.http.responses import ROOT
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact


def damaged_output(job_id: str, stage: str) -> ArtifactDamaged:
    """The error for a stored output of a job that is damaged or lost."""
    return ArtifactDamaged(
        f"The stored output of {stage} is damaged or lost.",
        hint=f'`POST {ROOT}/jobs/{job_id}/retry` with {{"from_stage": "{stage}"}} makes it again in a new job.',
    )


class StoredResults:
    """The outputs of stages, by the job and the stage that a caller named."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._store = store

    def folder(self, job_id: str, stage: str, ref: ArtifactRef) -> Path:
        """The folder of a stage's output, undamaged.

        Raises ArtifactDamaged, NotFound if it has expired, Unavailable.
        """
        try:
            return self._store.open(ref)
        except ArtifactDamaged:
            raise damaged_output(job_id, stage) from None
        except NotFound:
            with self._database.read() as session:
                expired = not _is_registered(session, ref)
            if expired:
                raise
            raise damaged_output(job_id, stage) from None


def _is_registered(session: Session, ref: ArtifactRef) -> bool:
    """True if garbage collection has not removed the artifact: it removes the row before the folder."""
    row = session.get(Artifact, ref.key)
    return row is not None and ref.digest in {row.digest, *row.other_digests}
