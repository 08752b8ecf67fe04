"""How long stages of a kind take, from those that this installation has done: a straight line, robust to outliers."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from statistics import median, quantiles
from typing import NamedTuple

from sqlmodel import Session, col, select

from craft.contracts.attempts import AttemptOutcome, AttemptWork
from craft.contracts.estimates import Basis, SecondsEstimate
from craft.contracts.stages import StageKind
from craft_gateway.tables import Attempt

MODEL_KINDS = frozenset({StageKind.PROBE, StageKind.ANSWER, StageKind.REHEARSE, StageKind.TUNE, StageKind.PACKAGE})
"""Whose time depends on the base model."""
REMEMBERED = 50
_ENOUGH_FOR_AN_INTERVAL = 3
_ENOUGH_FOR_QUANTILES = 20
_SCALED_DOUBT = 2.0
"""Models of other sizes do not scale by their parameters alone: their intervals are wider by this factor."""


class Past(NamedTuple):
    """A stage that was done."""

    seconds: float
    work: AttemptWork


def history(session: Session, kinds: Collection[StageKind]) -> dict[StageKind, list[Past]]:
    """The last stages of each kind that succeeded, whoever's they were."""
    found: dict[StageKind, list[Past]] = {}
    for kind in kinds:
        query = (
            select(Attempt.seconds, Attempt.work)
            .where(Attempt.kind == kind, Attempt.outcome == AttemptOutcome.SUCCEEDED, col(Attempt.work).is_not(None))
            .order_by(col(Attempt.ended_at).desc())
            .limit(REMEMBERED)
        )
        found[kind] = [Past(seconds or 0.0, AttemptWork.model_validate(work)) for seconds, work in session.exec(query)]
    return found


def relevant(past: Sequence[Past], kind: StageKind, model: str, parameters: int | None) -> tuple[list[Past], Basis]:
    """Those with the model; else those with others whose size is known, as if they had had this model's."""
    if kind not in MODEL_KINDS:
        return list(past), Basis.SAME
    same = [each for each in past if each.work.model == model]
    if same or not parameters:
        return same, Basis.SAME
    return [
        each._replace(seconds=each.seconds * parameters / each.work.parameters) for each in past if each.work.parameters
    ], Basis.SCALED


def predicted(past: Sequence[Past], units: float, basis: Basis) -> SecondsEstimate:
    """Seconds for so many units."""
    if not past:
        return SecondsEstimate(seconds=None)
    fixed, each_unit = line(past)
    seconds = fixed + each_unit * units
    low, high = _interval(past, fixed, each_unit, basis)
    return SecondsEstimate(
        seconds=seconds,
        low=None if low is None else low * seconds,
        high=None if high is None else high * seconds,
        based_on=len(past),
        basis=basis,
    )


def line(past: Sequence[Past]) -> tuple[float, float]:
    """Fixed seconds, and seconds for each unit: Theil and Sen's median slope, neither below 0.

    With one size only nothing tells the two apart; then all time counts as the units'.
    """
    slopes = [
        (b.seconds - a.seconds) / (b.work.units - a.work.units)
        for a, b in combinations(past, 2)
        if a.work.units != b.work.units
    ]
    slope = max(0.0, median(slopes)) if slopes else 0.0
    fixed = median([each.seconds - slope * each.work.units for each in past])
    if slopes and fixed >= 0.0:
        return fixed, slope
    return 0.0, median([each.seconds / max(each.work.units, 1.0) for each in past])


def tokens_for_each_unit(past: Sequence[Past]) -> Mapping[str, float | None]:
    """Median generated and trained tokens; None where nothing is known."""
    counts = {
        "generated_tokens": [each.work.generated_tokens / max(each.work.units, 1.0) for each in past],
        "trained_tokens": [each.work.trained_tokens / max(each.work.units, 1.0) for each in past],
    }
    return {name: median(values) if values else None for name, values in counts.items()}


def _interval(
    past: Sequence[Past], fixed: float, each_unit: float, basis: Basis
) -> tuple[float, float] | tuple[None, None]:
    """Factors of the prediction: how far past stages were from the rule that they gave."""
    if len(past) < _ENOUGH_FOR_AN_INTERVAL:
        return None, None
    ratios = sorted(each.seconds / max(fixed + each_unit * each.work.units, 1e-9) for each in past)
    low, high = ratios[0], ratios[-1]
    if len(ratios) >= _ENOUGH_FOR_QUANTILES:
        cuts = quantiles(ratios, n=20)
        low, high = cuts[0], cuts[-1]
    # The rule was made to fit these: of few stages the next one lies outside more often.
    doubt = (1.0 + 1.0 / len(past)) * (_SCALED_DOUBT if basis is Basis.SCALED else 1.0)
    return min(low, 1.0) / doubt, max(high, 1.0) * doubt
