"""The estimate that a job was accepted with, against what it took: a pure function of its rows."""

from collections.abc import Sequence

from craft.contracts.documents.estimate import Estimate, EstimateOutcome, StageEstimate, StageOutcome
from craft.contracts.events import StageStatus
from craft_gateway.store.tables import Job, Stage


def estimate_outcome(job: Job, stages: Sequence[Stage]) -> EstimateOutcome | None:
    """Of a job that has ended; None where it was accepted without an estimate, as a retry without its dataset is."""
    if job.estimate is None:
        return None
    estimate = Estimate.model_validate(job.estimate)
    expected = {each.stage: each for each in estimate.stage_estimates}
    found = [_stage(stage, expected.get(stage.name)) for stage in stages]
    both = [
        (each.estimated_seconds, each.seconds)
        for each in found
        if each.estimated_seconds is not None and each.seconds is not None
    ]
    estimated, took = sum(pair[0] for pair in both), sum(pair[1] for pair in both)
    return EstimateOutcome(
        stages=found,
        compared=len(both),
        estimated_seconds=estimated,
        seconds=took,
        ratio=took / estimated if estimated else None,
        queue_estimated_seconds=estimate.queue.seconds if estimate.queue else None,
        queue_seconds=max(0.0, (job.started_at - job.created_at).total_seconds()) if job.started_at else None,
    )


def _stage(stage: Stage, expected: StageEstimate | None) -> StageOutcome:
    done = stage.status is StageStatus.SUCCEEDED and not stage.reused
    seconds = stage.seconds if done else None
    wanted = expected.seconds if expected is not None and not expected.reused else None
    low, high = (wanted.low, wanted.high) if wanted else (None, None)
    return StageOutcome(
        stage=stage.name,
        estimated_seconds=wanted.seconds if wanted else None,
        low=low,
        high=high,
        seconds=seconds,
        reused=stage.reused,
        inside=None if seconds is None or low is None or high is None else low <= seconds <= high,
    )
