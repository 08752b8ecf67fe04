"""The percent of a job that is done: each stage counts by its usual cost."""

from collections.abc import Iterable
from typing import NamedTuple

from craft.contracts.stages.kinds import FACTS, StageKind


class StageShare(NamedTuple):
    """A stage and the share of it, in [0, 1], that is done."""

    kind: StageKind
    done: float


def percent_done(stages: Iterable[StageShare]) -> float:
    """Percent of the job that is done, to one decimal; 100 only where every stage is."""
    shares = list(stages)
    if all(share.done >= 1.0 for share in shares):
        return 100.0
    total = sum(FACTS[share.kind].weight for share in shares)
    done = sum(FACTS[share.kind].weight * min(1.0, max(0.0, share.done)) for share in shares)
    return min(99.9, round(100.0 * done / total, 1))
