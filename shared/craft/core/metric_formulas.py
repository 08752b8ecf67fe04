"""Each metric as a formula on the table of shares: the candidate's outcome by the baseline's outcome."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from craft.core.evaluated import OUTCOMES
from craft.core.judging.answers import Outcome

Shares: TypeAlias = NDArray[np.float64]  # (…, candidate outcome, baseline outcome), in the order of OUTCOMES
# A formula takes the shares and the baseline's Pc0/Pw0, and returns NaN where the metric is undefined.
Formula: TypeAlias = Callable[[Shares, float], Shares]

_RIGHT, _WRONG, _REFUSED, _UNPARSED = (
    OUTCOMES.index(outcome) for outcome in (Outcome.RIGHT, Outcome.WRONG, Outcome.REFUSED, Outcome.UNPARSED)
)


class Metric(StrEnum):
    """The metrics of method.md."""

    PC = "pc"
    PW = "pw"
    PR = "pr"
    PU = "pu"
    THS = "ths"
    OVER_REFUSAL = "over_refusal"
    SELECTIVE_ACCURACY = "selective_accuracy"
    COVERAGE = "coverage"
    ABSTAIN_PRECISION = "abstain_precision"
    ABSTAIN_RECALL = "abstain_recall"
    ABSTAIN_F1 = "abstain_f1"


def baseline_ratio(shares: Shares) -> float:
    """Pc0/Pw0, or NaN where Pw0 is 0."""
    baseline = shares.sum(axis=-2)
    return float(_ratio(baseline[_RIGHT], baseline[_WRONG]))


def _ratio(part: Shares, whole: Shares) -> Shares:
    """part/whole, NaN where the whole is 0."""
    quotient: Shares = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return quotient


def _rate(outcome: int) -> Formula:
    def rate(shares: Shares, _: float) -> Shares:
        share: Shares = shares[..., outcome, :].sum(axis=-1)
        return share

    return rate


_pc, _pw, _pr, _pu = (_rate(outcome) for outcome in (_RIGHT, _WRONG, _REFUSED, _UNPARSED))


def _answered(shares: Shares, ratio: float) -> Shares:
    return _pc(shares, ratio) + _pw(shares, ratio)


def _not_known(shares: Shares) -> Shares:
    """The share of questions that the baseline does not answer right; a perfect abstainer refuses exactly these."""
    columns: Shares = shares[..., [_WRONG, _REFUSED, _UNPARSED]].sum(axis=(-2, -1))
    return columns


def _well_refused(shares: Shares) -> Shares:
    refused: Shares = shares[..., _REFUSED, [_WRONG, _REFUSED, _UNPARSED]].sum(axis=-1)
    return refused


FORMULAS: Mapping[Metric, Formula] = {
    Metric.PC: _pc,
    Metric.PW: _pw,
    Metric.PR: _pr,
    Metric.PU: _pu,
    Metric.THS: lambda shares, ratio: _pc(shares, ratio) - _pw(shares, ratio) * ratio,
    Metric.OVER_REFUSAL: lambda shares, _: _ratio(shares[..., _REFUSED, _RIGHT], shares[..., :, _RIGHT].sum(axis=-1)),
    Metric.SELECTIVE_ACCURACY: lambda shares, ratio: _ratio(_pc(shares, ratio), _answered(shares, ratio)),
    Metric.COVERAGE: _answered,
    Metric.ABSTAIN_PRECISION: lambda shares, ratio: _ratio(_well_refused(shares), _pr(shares, ratio)),
    Metric.ABSTAIN_RECALL: lambda shares, _: _ratio(_well_refused(shares), _not_known(shares)),
    Metric.ABSTAIN_F1: lambda shares, ratio: _ratio(2 * _well_refused(shares), _pr(shares, ratio) + _not_known(shares)),
}
# The reason for a missing value, where the formula returns NaN.
UNDEFINED: Mapping[Metric, str] = {
    **dict.fromkeys(Metric, ""),
    Metric.THS: "the baseline answers nothing wrong, so THS is undefined",
    Metric.OVER_REFUSAL: "the baseline answers nothing right, so nothing could be over-refused",
    Metric.SELECTIVE_ACCURACY: "the model answers nothing",
    Metric.ABSTAIN_PRECISION: "the model refuses nothing",
    Metric.ABSTAIN_RECALL: "the baseline answers everything right, so nothing should be refused",
    Metric.ABSTAIN_F1: "the model refuses nothing and nothing should be refused",
}
