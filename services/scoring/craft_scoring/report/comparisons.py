"""The pairs of models that a report compares, and the verdict on each pair in words."""

from collections.abc import Iterator, Sequence

from craft.contracts.documents.evaluation import INITIAL_BASIC, INITIAL_REFUSE, Differences, EstimateView
from craft_scoring.report.texts import interval, name_of, points

_PREFERENCE = ("craft", "craft-no-flow", "craft-no-certainty", "cor-rait", "van-tuning")


def pairs(strategies: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs (model, against): each strategy against both prompts of M0, then the strategies against one another.

    The model of a pair is the strategy nearer to full CRaFT, so a positive THS difference speaks for the method.
    """
    ordered = sorted(strategies, key=_PREFERENCE.index)
    for strategy in ordered:
        yield strategy, INITIAL_BASIC
        yield strategy, INITIAL_REFUSE
    for place, strategy in enumerate(ordered):
        for other in ordered[place + 1 :]:
            yield strategy, other


def verdict(model: str, against: str, differences: Differences) -> str:
    """One or two sentences for readers who do not read intervals."""
    name, other = name_of(model), name_of(against)
    sentence = f"{name} {_ths(differences.ths)} {other}{_ths_size(differences.ths)}."
    refusal = differences.over_refusal
    if _sure(refusal):
        word = "less" if (refusal.value or 0) < 0 else "more"
        sentence += f" It refuses {word} of what M0 answers right ({points(refusal.value)} points)."
    elif refusal.value is not None and _sure(differences.ths):
        sentence += " Over-refusal does not differ for sure."
    return sentence


def _sure(estimate: EstimateView) -> bool:
    """True if the interval does not contain 0."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


def _ths(estimate: EstimateView) -> str:
    if estimate.value is None:
        return "cannot be compared by THS with"
    if not _sure(estimate):
        return "cannot be told from"
    return "has a higher THS than" if estimate.value > 0 else "has a lower THS than"


def _ths_size(estimate: EstimateView) -> str:
    if estimate.value is None:
        return f": {estimate.reason}" if estimate.reason else ""
    doubt = "" if _sure(estimate) else ": the difference may be chance"
    return f" ({points(estimate.value)} points, 95\u00a0% interval {interval(estimate, signed=True)}){doubt}"
