"""Compares the estimate that a job was accepted with to the time it took: a pure function of its rows."""

from collections.abc import Sequence

from craft.contracts.documents.estimate import Estimate, EstimateOutcome, StageEstimate, StageOutcome
from craft.contracts.events import StageStatus
from craft_gateway.store.tables import Job, Stage


def estimate_outcome(job: Job, stages: Sequence[Stage]) -> EstimateOutcome | None:
    """Compare the estimate of a job that has ended.

    None if the job was accepted without an estimate, such as a retry whose dataset is gone.
    """
    if job.estimate is None:
        return None
    estimate = Estimate.model_validate(job.estimate)
    expected = {stage.stage: stage for stage in estimate.stage_estimates}
    outcomes = [_stage(stage, expected.get(stage.name)) for stage in stages]
    compared = [
        (outcome.estimated_seconds, outcome.seconds)
        for outcome in outcomes
        if outcome.estimated_seconds is not None and outcome.seconds is not None
    ]
    estimated, took = sum(pair[0] for pair in compared), sum(pair[1] for pair in compared)
    return EstimateOutcome(
        stages=outcomes,
        compared=len(compared),
        estimated_seconds=estimated,
        seconds=took,
        ratio=took / estimated if estimated else None,
        queue_estimated_seconds=estimate.queue.seconds if estimate.queue else None,
        queue_seconds=max(0.0, (job.started_at - job.created_at).total_seconds()) if job.started_at else None,
    )


def _stage(stage: Stage, expected: StageEstimate | None) -> StageOutcome:
    computed = stage.status is StageStatus.SUCCEEDED and not stage.reused
    seconds = stage.seconds if computed else None
    estimated = expected.seconds if expected is not None and not expected.reused else None
    low, high = (estimated.low, estimated.high) if estimated else (None, None)
    return StageOutcome(
        stage=stage.name,
        estimated_seconds=estimated.seconds if estimated else None,
        low=low,
        high=high,
        seconds=seconds,
        reused=stage.reused,
        inside=None if seconds is None or low is None or high is None else low <= seconds <= high,
    )
