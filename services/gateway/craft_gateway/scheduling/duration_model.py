"""Models how long stages of a kind take, from this installation's history: a straight line, robust to outliers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median, quantiles
from typing import NamedTuple

from sqlmodel import Session, col, select

from craft.contracts.documents.estimate import Basis, SecondsEstimate
from craft.contracts.stages.attempts import AttemptOutcome, AttemptWork
from craft.contracts.stages.kinds import FACTS, StageKind
from craft_gateway.store.tables import Attempt

REMEMBERED = 50
_ENOUGH_FOR_AN_INTERVAL = 3
_ENOUGH_FOR_QUANTILES = 20
_SCALED_DOUBT = 2.0
"""Models of other sizes do not scale by their parameters alone: their intervals are wider by this factor."""


class PastStage(NamedTuple):
    """A stage that succeeded."""

    seconds: float
    work: AttemptWork


def history(session: Session, kind: StageKind) -> list[PastStage]:
    """The last stages of the kind that succeeded, of all teams."""
    query = (
        select(Attempt.seconds, Attempt.work)
        .where(Attempt.kind == kind, Attempt.outcome == AttemptOutcome.SUCCEEDED, col(Attempt.work).is_not(None))
        .order_by(col(Attempt.ended_at).desc())
        .limit(REMEMBERED)
    )
    return [PastStage(seconds or 0.0, AttemptWork.model_validate(work)) for seconds, work in session.exec(query)]


def relevant(
    past: Sequence[PastStage], kind: StageKind, model: str, parameters: int | None
) -> tuple[list[PastStage], Basis]:
    """The past stages with the model; else those with other models, scaled to this model's number of parameters."""
    if not FACTS[kind].needs_model:
        return list(past), Basis.SAME
    same = [each for each in past if each.work.model == model]
    if same or not parameters:
        return same, Basis.SAME
    return [
        each._replace(seconds=each.seconds * parameters / each.work.parameters) for each in past if each.work.parameters
    ], Basis.SCALED


@dataclass(frozen=True, slots=True)
class DurationModel:
    """Predicts the seconds and tokens of a stage from its units.

    `low` and `high` are factors of the predicted seconds; `generated` and `trained` are tokens of one unit. None if
    nothing is known.
    """

    fixed: float
    each_unit: float
    low: float | None
    high: float | None
    based_on: int
    basis: Basis
    generated: float | None
    trained: float | None

    @classmethod
    def of(cls, past: Sequence[PastStage], basis: Basis) -> "DurationModel":
        """Fit the model to past stages that are `relevant`."""
        fixed, each_unit = fit_line(past) if past else (0.0, 0.0)
        low, high = _interval(past, fixed, each_unit, basis)
        units = [max(each.work.units, 1.0) for each in past]
        return cls(
            fixed,
            each_unit,
            low,
            high,
            based_on=len(past),
            basis=basis,
            generated=_median([each.work.generated_tokens / of for each, of in zip(past, units, strict=True)]),
            trained=_median([each.work.trained_tokens / of for each, of in zip(past, units, strict=True)]),
        )

    def expected_seconds(self, units: float) -> float | None:
        """Seconds for so many units; None if nothing is known."""
        return self.fixed + self.each_unit * units if self.based_on else None

    def seconds(self, units: float) -> SecondsEstimate:
        """Seconds for so many units, with their interval."""
        seconds = self.expected_seconds(units)
        if seconds is None:
            return SecondsEstimate(seconds=None)
        return SecondsEstimate(
            seconds=seconds,
            low=None if self.low is None else self.low * seconds,
            high=None if self.high is None else self.high * seconds,
            based_on=self.based_on,
            basis=self.basis,
        )

    def generated_tokens(self, units: float) -> int | None:
        """Tokens that a stage of so many units generates."""
        return None if self.generated is None else round(self.generated * units)

    def trained_tokens(self, units: float) -> int | None:
        """Tokens that a stage of so many units trains on."""
        return None if self.trained is None else round(self.trained * units)


def read_duration_model(session: Session, kind: StageKind, model: str, parameters: int | None) -> DurationModel:
    """Fit the duration model of the kind to this installation's history; `model` is the base model's digest."""
    return DurationModel.of(*relevant(history(session, kind), kind, model, parameters))


def measured_peak(session: Session, model: str) -> int | None:
    """The most memory that a past stage with the base model of this digest took on its host; None if none is known."""
    kinds = [kind for kind, facts in FACTS.items() if facts.needs_model or facts.unit.trained]
    past = [each.work for kind in kinds for each in history(session, kind)]
    return max(
        (each.peak_memory_bytes for each in past if each.model == model and each.peak_memory_bytes), default=None
    )


def fit_line(past: Sequence[PastStage]) -> tuple[float, float]:
    """Fixed seconds, and seconds for each unit: Theil and Sen's median slope, neither below 0.

    Stages of one size cannot tell the two apart; then all time counts for the units.
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


def total(values: Sequence[float | None]) -> float | None:
    """The sum; None if one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _interval(
    past: Sequence[PastStage], fixed: float, each_unit: float, basis: Basis
) -> tuple[float, float] | tuple[None, None]:
    """Factors of the prediction: how far past stages were from the line that they gave."""
    if len(past) < _ENOUGH_FOR_AN_INTERVAL:
        return None, None
    ratios = sorted(each.seconds / max(fixed + each_unit * each.work.units, 1e-9) for each in past)
    low, high = ratios[0], ratios[-1]
    if len(ratios) >= _ENOUGH_FOR_QUANTILES:
        cuts = quantiles(ratios, n=20)
        low, high = cuts[0], cuts[-1]
    # The line was fitted to these stages: of few, the next one lies outside the interval more often.
    doubt = (1.0 + 1.0 / len(past)) * (_SCALED_DOUBT if basis is Basis.SCALED else 1.0)
    return min(low, 1.0) / doubt, max(high, 1.0) * doubt
