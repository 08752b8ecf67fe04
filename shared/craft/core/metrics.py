"""The metrics of a report: rates, THS, over-refusal and others, each with a bootstrap interval.

All are computed from one table of shares, the candidate's outcome by the baseline's. A bootstrap over items changes
only the counts in that table, so one resample is one multinomial draw of the table. This has the same distribution as
drawing the items, and its cost does not grow with their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from craft.core.evaluated import Evaluated, crossed
from craft.core.metric_formulas import FORMULAS, UNDEFINED, Metric, Shares, baseline_ratio
from craft.errors import RequestInvalid

DEFAULT_RESAMPLES = 2000
CONFIDENCE_PERCENT = (2.5, 97.5)
# A metric must be defined in this share of the resamples to have an interval.
DEFINED_ENOUGH = 0.5


class Rates(NamedTuple):
    """Shares of all evaluated questions. They sum to 1: no question leaves the denominator."""

    right: float
    wrong: float
    refused: float
    unparsed: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % percentile-bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MetricEstimate:
    """A metric with its interval. `reason` says why the value, or only the interval, is missing."""

    value: float | None
    interval: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """One category's rates under the candidate and under the baseline, and its number of questions."""

    count: int
    rates: Rates
    baseline: Rates


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A candidate's metrics against the baseline. `micro` weighs questions equally, `macro` categories."""

    count: int
    micro: Mapping[Metric, MetricEstimate]
    macro: Mapping[Metric, MetricEstimate]
    per_category: Mapping[str, CategoryResult]


def ths(pc: float, pw: float, pc0: float, pw0: float) -> float | None:
    """Truthful helpfulness score: Pc − Pw · Pc0/Pw0. None if the baseline is never wrong."""
    return None if pw0 == 0 else pc - pw * pc0 / pw0


def evaluate(
    candidate: Sequence[Evaluated],
    baseline: Sequence[Evaluated],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int,
) -> Evaluation:
    """Every metric of `candidate` against `baseline` (M0 under BASIC), with its 95 % interval.

    Items are resampled with both models' outcomes together; for macro within each category, so that none vanishes. THS
    is the mean of +1, 0 and −Pc0/Pw0 over items. That ratio is fixed at its full-sample value, so the interval shows
    how certain the candidate's score is on this baseline's scale. For macro, shares are averaged over categories with
    equal weights, and every metric is computed from these averages. `resamples` = 0 gives no intervals.
    Raises the errors of `crossed`, and RequestInvalid for a negative number of resamples.
    """
    counts = crossed(candidate, baseline)
    groups = list(counts.values())
    total = np.sum(groups, axis=0)
    rng = _generator(resamples, seed)
    micro = _draw([total], resamples, rng)
    macro = _draw(groups, resamples, rng)
    return Evaluation(
        count=int(total.sum()),
        micro=_estimates(_mean_shares([total]), micro),
        macro=_estimates(_mean_shares(groups), macro),
        per_category={name: _category(cells) for name, cells in counts.items()},
    )


def paired_difference(
    a: Sequence[Evaluated],
    b: Sequence[Evaluated],
    baseline: Sequence[Evaluated],
    *,
    metric: Metric | str,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int,
) -> MetricEstimate:
    """metric(a) − metric(b), with equal weights of questions; each resample takes the same items for all three models.

    The difference is undefined, with the reason, where the metric is undefined for `a` or `b`. Raises RequestInvalid
    for an unknown metric.
    """
    if metric not in set(Metric):
        raise RequestInvalid(f"no metric is called {metric}", hint=f"known: {', '.join(Metric)}", param="metric")
    total = np.sum(list(crossed(a, b, baseline).values()), axis=0)
    value = _mean_shares([total])
    drawn = _draw([total], resamples, _generator(resamples, seed))
    ratio = baseline_ratio(value.sum(axis=0))
    formula = FORMULAS[Metric(metric)]

    def difference(shares: Shares) -> Shares:
        # (…, a, b, baseline): a sum over one model leaves the other model's table against the baseline.
        return formula(shares.sum(axis=-2), ratio) - formula(shares.sum(axis=-3), ratio)

    return _estimate(float(difference(value)), difference(drawn), UNDEFINED[Metric(metric)])


def _generator(resamples: int, seed: int) -> np.random.Generator:
    if resamples < 0 or seed < 0:
        raise RequestInvalid("resamples and seed must not be negative", param="resamples")
    return np.random.default_rng(seed)


def _mean_shares(groups: Sequence[NDArray[np.int64]]) -> Shares:
    shares: Shares = np.mean([cells / cells.sum() for cells in groups], axis=0)
    return shares


def _draw(groups: Sequence[NDArray[np.int64]], resamples: int, rng: np.random.Generator) -> Shares:
    """(resamples, …): resample each group at its own size, as shares, and average over the groups."""
    # A running sum, because with thousands of categories all draws together would not fit into memory.
    summed = np.zeros((resamples, groups[0].size))
    for cells in groups:
        size = int(cells.sum())
        summed += rng.multinomial(size, cells.ravel() / size, size=resamples) / size
    return (summed / len(groups)).reshape(resamples, *groups[0].shape)


def _estimates(value: Shares, drawn: Shares) -> dict[Metric, MetricEstimate]:
    ratio = baseline_ratio(value)
    return {
        metric: _estimate(float(formula(value, ratio)), formula(drawn, ratio), UNDEFINED[metric])
        for metric, formula in FORMULAS.items()
    }


def _estimate(value: float, drawn: Shares, undefined: str) -> MetricEstimate:
    if np.isnan(value):
        return MetricEstimate(None, None, undefined)
    if drawn.size == 0:
        return MetricEstimate(value, None, "no resamples were asked for")
    defined = drawn[~np.isnan(drawn)]
    if defined.size < DEFINED_ENOUGH * drawn.size:
        return MetricEstimate(value, None, f"in most resamples {undefined}")
    low, high = np.percentile(defined, CONFIDENCE_PERCENT)
    return MetricEstimate(value, Interval(float(low), float(high)))


def _category(cells: NDArray[np.int64]) -> CategoryResult:
    count = int(cells.sum())
    return CategoryResult(
        count,
        Rates(*(float(share) for share in cells.sum(axis=1) / count)),
        Rates(*(float(share) for share in cells.sum(axis=0) / count)),
    )
