"""How the report says things: names of models and stages, numbers, and text that came from outside."""

import re
import unicodedata

from craft.contracts.documents.evaluation import INITIAL_BASIC, INITIAL_REFUSE, EstimateView
from craft.contracts.stages.kinds import FACTS
from craft.contracts.stages.names import HELD_OUT, OWN_TITLES, kind_of, which_of

LONGEST_TEXT = 400
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# White space, and the joiners that Persian, Indic scripts and emoji are spelled with.
_KEPT = "\n\t\u200c\u200d"
_NAMES = {
    INITIAL_BASIC: "M0\u00a0BASIC",
    INITIAL_REFUSE: "M0\u00a0REFUSE",
    "craft": "CRaFT",
    "craft-no-flow": "CRaFT without flow",
    "craft-no-certainty": "CRaFT without certainty",
    "cor-rait": "Cor-RAIT",
    "van-tuning": "Van-Tuning",
    HELD_OUT: "Held-out questions",
}
REASONS = {
    "dynamic_conflict": "M0 fails it, but rehearsal improves it: training would fight what the model is learning.",
    "static_conflict": "Less clear-cut in certainty than those taken: look-alikes would get opposite targets.",
    "not_drawn": "Not drawn by this strategy's random choice.",
}
REASON_NAMES = {
    "dynamic_conflict": "Dynamic conflict",
    "static_conflict": "Static conflict",
    "not_drawn": "Not drawn",
}


def name_of(model: str) -> str:
    """What readers call a model, a strategy or an evaluation set; unknown names stand for themselves."""
    return _NAMES.get(model, said(model))


def stage_title(stage: str) -> str:
    """The name of a stage for readers; a stage that this version does not know has its own name."""
    kind, which = kind_of(stage), which_of(stage)
    if stage in OWN_TITLES or kind is None:
        return OWN_TITLES.get(stage, stage)
    return f"{FACTS[kind].title}: {name_of(which)}" if which else FACTS[kind].title


def said(text: object, longest: int = LONGEST_TEXT) -> str:
    """Text from a dataset or a model as a page may show it: short, no escape sequences, control or direction marks.

    Escaping for HTML is the template's part.
    """
    plain = _ANSI.sub("", str(text))
    shown = "".join(mark for mark in plain if mark in _KEPT or unicodedata.category(mark) not in {"Cc", "Cf", "Cs"})
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else shown[: longest - 1].rstrip() + "…"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a number of percent, with a true minus sign; a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{abs(value) * 100:.{digits}f}"
    return f"−{shown}" if value < 0 and float(shown) else shown


def points(value: float | None) -> str:
    """A difference of shares in percentage points, signed."""
    if value is None:
        return "–"
    shown = percent(value)
    return shown if shown.startswith("−") or shown == "0.0" else f"+{shown}"


def interval(estimate: EstimateView, *, signed: bool = False) -> str:
    """The 95 % interval as text; empty where there is none or where it is a single point."""
    if estimate.low is None or estimate.high is None:
        return ""
    say = points if signed else percent
    low, high = say(estimate.low), say(estimate.high)
    return "" if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def thousands(count: float) -> str:
    """A whole number with thin spaces between its thousands."""
    return f"{round(count):,}".replace(",", "\u202f")
