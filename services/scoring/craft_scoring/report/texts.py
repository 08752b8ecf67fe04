"""The report's texts: names of models and stages, numbers, and cleaned text from outside."""

import re
import unicodedata

from craft.contracts.documents.evaluation import INITIAL_BASIC, INITIAL_REFUSE, EstimateView
from craft.contracts.stages.kinds import FACTS
from craft.contracts.stages.names import HELD_OUT, OWN_TITLES, kind_of, which_of

MAX_TEXT_LENGTH = 400
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# White space, and the joiners that Persian, Indic scripts and emoji need.
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
    """The name of a model, a strategy or an evaluation set for readers. An unknown name is shown as it is."""
    return _NAMES.get(model, plain_text(model))


def stage_title(stage: str) -> str:
    """The name of a stage for readers; a stage that this version does not know has its own name."""
    kind, which = kind_of(stage), which_of(stage)
    if stage in OWN_TITLES or kind is None:
        return OWN_TITLES.get(stage, stage)
    return f"{FACTS[kind].title}: {name_of(which)}" if which else FACTS[kind].title


def source_name(source: str) -> str:
    """Where a finding comes from, for readers: the job's submission, or a stage."""
    return "The job" if source == "job" else stage_title(source)


def plain_text(text: object, longest: int = MAX_TEXT_LENGTH) -> str:
    """Text from a dataset or a model as a page may show it: short, without escape sequences, control and bidi marks.

    It is not escaped for HTML; the template does that.
    """
    printable = _ANSI.sub("", str(text))
    shown = "".join(c for c in printable if c in _KEPT or unicodedata.category(c) not in {"Cc", "Cf", "Cs"})
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else shown[: longest - 1].rstrip() + "…"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, with a true minus sign; a dash for None."""
    if value is None:
        return "–"
    shown = f"{abs(value) * 100:.{digits}f}"
    return f"−{shown}" if value < 0 and float(shown) else shown


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign; a dash for None."""
    if value is None:
        return "–"
    shown = percent(value)
    return shown if shown.startswith("−") or shown == "0.0" else f"+{shown}"


def interval(estimate: EstimateView, *, signed: bool = False) -> str:
    """The 95 % interval as text. It is empty where there is no interval, or where it shows a single number."""
    if estimate.low is None or estimate.high is None:
        return ""
    text_of = points if signed else percent
    low, high = text_of(estimate.low), text_of(estimate.high)
    return "" if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """Seconds as readers expect them, such as "2 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def thousands(count: float) -> str:
    """A whole number, with thin spaces between its groups of thousands."""
    return f"{round(count):,}".replace(",", "\u202f")
