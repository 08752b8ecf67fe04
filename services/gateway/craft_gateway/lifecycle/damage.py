"""A stage whose input is damaged waits until the stage that makes the input has run again."""

from collections.abc import Collection

from sqlmodel import Session, col, select

from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import ArtifactDamaged
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.reuse import ArtifactExists, done_stages, resolved_inputs
from craft_gateway.lifecycle.transitions import advance, end_if_nothing_runs, ended_with_job, fail_job
from craft_gateway.store.tables import Dataset, Stage

MAX_REMAKES = 3
"""A stage runs again so many times because its stored artifact was damaged; then its job fails."""


def damaged_inputs(stage: Stage, stages: Collection[Stage], exists: ArtifactExists) -> frozenset[ArtifactRef]:
    """The inputs of a stage that the store no longer has undamaged. `stages` are all of its job.

    Nothing is said of a stage that waits for an input, because another one found it damaged before.
    """
    inputs = resolved_inputs(stage, done_stages(list(stages))) or {}
    return frozenset(ref for ref in inputs.values() if not exists(ref))


def retryable(error: StageError) -> StageError:
    """The error of an attempt that another attempt can make good."""
    return error.model_copy(update={"retryable": True})


def remake_inputs(
    transaction: JobTransaction, stage: Stage, error: StageError, damaged: Collection[ArtifactRef]
) -> None:
    """End the attempt: the stages that made the damaged inputs run again, and all that need these inputs wait.

    Fails the job where nothing makes an input again, as for an uploaded dataset, and where a stage's artifact was
    damaged too often. What another stage's report has had made again in the meantime is only waited for.
    """
    if ended_with_job(transaction, stage):
        return
    makers = [each for each in transaction.stages if each.artifact in damaged and each.status is StageStatus.SUCCEEDED]
    if uploaded := _uploaded_inputs(stage).intersection(damaged):
        fail_job(transaction, stage, StageError.of(_damaged_dataset(transaction, uploaded)))
        return
    if hopeless := next((maker for maker in makers if maker.remakes >= MAX_REMAKES), None):
        fail_job(transaction, stage, StageError.of(_damaged_again(hopeless)))
        return
    shown = error.model_dump(mode="json")
    transaction.end_attempt(stage, StageStatus.PENDING, error=shown)
    names = {maker.name for maker in makers}
    for waiting in transaction.stages:
        if waiting.status is StageStatus.READY and names.intersection(waiting.depends_on):
            transaction.move(waiting, StageStatus.PENDING)
    for maker in makers:
        _run_again(transaction, maker)
        transaction.emit(
            EventType.STAGE_RETRIED, stage=maker.name, attempt=maker.attempt, error=shown, retry_seconds=0.0
        )
    advance(transaction, {})
    if names and transaction.job.status.schedulable:
        transaction.job.status_reason = f"{', '.join(sorted(names))}: computed again, the stored output was damaged"
    end_if_nothing_runs(transaction)


def _uploaded_inputs(stage: Stage) -> frozenset[ArtifactRef]:
    given = (source["artifact"] for source in stage.inputs.values() if "artifact" in source)
    return frozenset(map(ArtifactRef.model_validate, given))


def _run_again(transaction: JobTransaction, maker: Stage) -> None:
    transaction.move(
        maker,
        StageStatus.PENDING,
        artifact_key=None,
        artifact_digest=None,
        reused=False,
        progress=None,
        finished_at=None,
        remakes=maker.remakes + 1,
    )


def _damaged_again(maker: Stage) -> ArtifactDamaged:
    return ArtifactDamaged(
        f"The stored output of {maker.name} was damaged {MAX_REMAKES + 1} times.",
        hint="Check the disk and the memory of the machines that hold the artifacts folder; then retry the job.",
    )


def _damaged_dataset(transaction: JobTransaction, uploaded: Collection[ArtifactRef]) -> ArtifactDamaged:
    names = _dataset_names(transaction.session, transaction.job.team, {ref.key for ref in uploaded})
    shown = f"The stored rows of the dataset {', '.join(names)}" if names else "The stored rows of a deleted dataset"
    return ArtifactDamaged(
        f"{shown} are damaged or lost.",
        hint="Upload the same rows again: that repairs the dataset under its old id. Then retry the job.",
        param="dataset",
    )


def _dataset_names(session: Session, team: str, keys: Collection[str]) -> list[str]:
    rows = session.exec(select(Dataset).where(Dataset.team == team, col(Dataset.content_hash).in_(keys)))
    return [f"{row.id} ({row.name})" if row.name else row.id for row in rows]
