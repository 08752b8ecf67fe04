"""The distribution of whole numbers, from counts: a million values take no more memory than their range."""

from collections import Counter
from itertools import accumulate
from typing import NamedTuple


class Distribution(NamedTuple):
    """Minimum, median, 95th percentile (both by nearest rank) and maximum."""

    min: int
    median: int
    p95: int
    max: int


def distribution(counts: Counter[int]) -> Distribution:
    """The distribution of at least one value; `counts` holds how often each occurs."""
    values = sorted(counts)
    ranks = list(accumulate(counts[value] for value in values))

    def at(percent: int) -> int:
        rank = -(-counts.total() * percent // 100)
        return next(value for value, last in zip(values, ranks, strict=True) if last >= rank)

    return Distribution(values[0], at(50), at(95), values[-1])
