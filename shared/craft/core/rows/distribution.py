"""How whole numbers are spread, from their counts alone: a million values need no more memory than their range."""

from collections import Counter
from itertools import accumulate
from typing import NamedTuple


class Distribution(NamedTuple):
    """Least, median, 95th percentile (both by nearest rank) and greatest."""

    min: int
    median: int
    p95: int
    max: int


def distribution(counts: Counter[int]) -> Distribution:
    """The spread of values of which `counts` says how often each occurs. There must be one at least."""
    values = sorted(counts)
    ranks = list(accumulate(counts[value] for value in values))

    def at(percent: int) -> int:
        rank = -(-counts.total() * percent // 100)
        return next(value for value, passed in zip(values, ranks, strict=True) if passed >= rank)

    return Distribution(values[0], at(50), at(95), values[-1])
