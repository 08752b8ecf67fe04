"""Tells a gain that a strategy made from one that the base model's cut or unreadable replies made for it."""

from collections.abc import Collection, Sequence

from craft.core.evaluated import Evaluated
from craft.core.findings import FindingCode
from craft.core.judging.answers import Outcome
from craft.core.metrics import ths
from craft.core.replies.guards import WARN_CUT
from craft.errors import FindingDetail, Severity

MIN_WHOLE_SHARE = 0.5
"""Below it the base model's score, and so every gain over it, rests on replies that say little."""
MIN_KEPT_GAIN = 0.5
"""The part of the gain that must be left on questions whose base reply was whole and could be read."""


def gain_finding(
    candidate: Sequence[Evaluated],
    baseline: Sequence[Evaluated],
    *,
    flawed: Collection[str],
    examples: Sequence[str],
) -> FindingDetail | None:
    """A warning where most of the candidate's gain over the baseline comes from the questions in `flawed`.

    `baseline` is M0 under BASIC, whose THS is 0, so that the candidate's THS is its gain. `flawed` are the ids whose
    baseline reply was cut or unparsed; `examples` are excerpts of such replies. None where few are flawed, where
    nothing was gained, and where the gain is also there without them.
    """
    count = len(baseline)
    gain = _ths(candidate, baseline)
    if len(flawed) <= WARN_CUT * count or gain is None or gain <= 0:
        return None
    whole = count - len(flawed)
    seen = f"M0\u00a0BASIC's reply was cut or could not be read for {len(flawed):,} of {count:,} questions"
    if whole < MIN_WHOLE_SHARE * count:
        message = f"{seen}, so its score, and the gain of {_points(gain)} points THS over it, say little."
    else:
        kept = _ths(_without(candidate, flawed), _without(baseline, flawed))
        if kept is not None and kept >= MIN_KEPT_GAIN * gain:
            return None
        rest = "no THS is defined" if kept is None else f"it is {_points(kept)} points"
        message = f"Most of the gain is no gain: THS is {_points(gain)} points, but {seen}; without them {rest}."
    return FindingDetail(
        code=FindingCode.GAIN_FROM_BASE_REPLIES,
        severity=Severity.WARNING,
        message=message,
        hint="Raise evaluation_settings.max_new_tokens, or switch a thought off in "
        "base_model.chat_template_arguments, and compare again.",
        count=len(flawed),
        examples=tuple(examples),
    )


def _ths(candidate: Sequence[Evaluated], baseline: Sequence[Evaluated]) -> float | None:
    return ths(
        _share(candidate, Outcome.RIGHT),
        _share(candidate, Outcome.WRONG),
        _share(baseline, Outcome.RIGHT),
        _share(baseline, Outcome.WRONG),
    )


def _share(rows: Sequence[Evaluated], outcome: Outcome) -> float:
    return sum(row.outcome is outcome for row in rows) / max(1, len(rows))


def _without(rows: Sequence[Evaluated], flawed: Collection[str]) -> list[Evaluated]:
    return [row for row in rows if row.id not in flawed]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
