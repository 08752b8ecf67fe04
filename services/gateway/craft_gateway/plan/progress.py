"""How much of a job is done: stages weighed by what they usually cost."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from craft.contracts.stages.kinds import StageKind

WEIGHT: Mapping[StageKind, float] = {
    StageKind.INGEST: 0.5,
    StageKind.PROBE: 30.0,
    StageKind.SCORE: 4.0,
    StageKind.REHEARSAL_SET: 0.5,
    StageKind.REHEARSE: 6.0,
    StageKind.FLOW: 0.5,
    StageKind.TUNING_SET: 0.5,
    StageKind.TUNE: 12.0,
    StageKind.ANSWER: 6.0,
    StageKind.EVALUATE: 1.0,
    StageKind.PACKAGE: 4.0,
    StageKind.REPORT: 1.0,
}
"""Relative cost of a stage, from runs of the demo job."""


class StageShare(NamedTuple):
    """A stage and the share of it, in [0, 1], that is done."""

    kind: StageKind
    done: float


def percent_done(stages: Iterable[StageShare]) -> float:
    """Percent of the job that is done, to one decimal; 100 only where every stage is."""
    shares = list(stages)
    if all(share.done >= 1.0 for share in shares):
        return 100.0
    total = sum(WEIGHT[share.kind] for share in shares)
    done = sum(WEIGHT[share.kind] * min(1.0, max(0.0, share.done)) for share in shares)
    return min(99.9, round(100.0 * done / total, 1))
