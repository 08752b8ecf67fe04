"""Retrying an ended job as a new one."""

from collections.abc import Sequence

from craft.contracts.spec.jobs import JobStatus, RetryRequest
from craft.errors import Conflict, RequestInvalid
from craft_gateway.plan.stages import PlannedStage
from craft_gateway.store.tables import Job


def _check_ended(job: Job, request: RetryRequest) -> None:
    if not job.status.terminal:
        raise Conflict(
            f"The job is {job.status.value}; only one that has ended can be done again.",
            hint="Wait for its end, or cancel it first.",
        )
    if job.status is JobStatus.SUCCEEDED and request.from_stage is None:
        raise Conflict("The job has succeeded.", hint="Name in `from_stage` where to compute again.")


def _from(first: str, stages: Sequence[PlannedStage]) -> frozenset[str]:
    """The stage and all that depend on it. Raises RequestInvalid where the plan has no such stage."""
    names = [stage.name for stage in stages]
    if first not in names:
        raise RequestInvalid(
            f"The job has no stage {first}.", hint=f"Its stages are {', '.join(names)}.", param="from_stage"
        )
    found = {first}
    for stage in stages:
        if found.intersection(stage.depends_on):
            found.add(stage.name)
    return frozenset(found)
