"""The report as one HTML file. It runs no script and fetches nothing, and all text from outside is escaped.

Text from datasets and models goes through `plain_text`, which removes escape sequences and control and direction
characters, and through autoescape.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from craft.contracts.documents.evaluation import INITIAL_BASIC, EstimateView, ModelMetrics
from craft.contracts.documents.report import Comparison, ReportDocument, ReportSet, reuse_mark
from craft.contracts.stages.names import HELD_OUT, which_of
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft_scoring.report import texts
from craft_scoring.report.category_table import CategoryRow, category_rows
from craft_scoring.report.charts import CurveChart, Segment, Whisker, curve_chart, outcome_bar, whiskers
from craft_scoring.report.document import outcomes_by_model
from craft_scoring.report.inputs import JobResults
from craft_scoring.report.knowledge_map import KnowledgeMap, knowledge_map

MAX_COMPARISONS = 6
_GROUPS = {
    "van": "keeps its answer",
    "idk": "teaches refusal",
    "dynamic": "dropped: dynamic conflict",
    "static": "dropped: static conflict or not drawn",
    "undecided": "not used",
}
_KINDS = {"right": "Right", "refused": "Refused", "over_refused": "Refused what M0 knows", "wrong": "Wrong"}


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """One set's comparisons, with each THS difference on a common scale. The `others` are folded away."""

    leading: list[tuple[Comparison, Whisker]]
    others: list[tuple[Comparison, Whisker]]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """The template's input: the document, and what is drawn beside its numbers."""

    document: ReportDocument
    title: str
    facts: list[tuple[str, str]]
    short: list[str]
    main: ReportSet
    further: list[ReportSet]
    bars: dict[str, dict[str, list[Segment]]]
    compared: dict[str, ComparisonTable]
    maps: dict[str, KnowledgeMap]
    groups: Mapping[str, str]
    tau: float | None
    discrete: bool
    has_flow: bool
    curves: list[tuple[str, CurveChart]]
    refusing: list[str]
    categories: list[CategoryRow]
    kinds: Mapping[str, str]
    reasons: Mapping[str, str]
    reason_names: Mapping[str, str]
    job_json: str
    embedded_json: Markup


def render(results: JobResults, document: ReportDocument) -> str:
    """The whole page as HTML text."""
    return _environment().get_template("report.html.j2").render(page=_page(results, document))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("craft_scoring", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain_text": texts.plain_text,
        "name_of": texts.name_of,
        "stage_title": texts.stage_title,
        "source_name": texts.source_name,
        "reuse_mark": lambda stage: Markup(reuse_mark(stage)),  # noqa: S704 - a stage's name is letters, `:` and `-`
        "percent": texts.percent,
        "points": texts.points,
        "interval": texts.interval,
        "signed_interval": lambda estimate: texts.interval(estimate, signed=True),
        "duration": texts.duration,
        "thousands": texts.thousands,
        "tone": _tone,
        "best_ths": _best_ths,
    }
    return environment


def _page(results: JobResults, document: ReportDocument) -> ReportPage:
    main = next(shown for shown in document.sets if shown.name == HELD_OUT)
    discrete = document.task is Task.OPEN_ENDED
    refusing = [model for model in main.models if model != INITIAL_BASIC]
    return ReportPage(
        document=document,
        title=texts.plain_text(document.job.get("name") or _model_id(document) or "A language model learns to refuse"),
        facts=_facts(document, main),
        short=[*_doubts(document), *_short(main)],
        main=main,
        further=[shown for shown in document.sets if shown.name != HELD_OUT],
        bars={
            shown.name: {model: outcome_bar(metrics.micro) for model, metrics in shown.models.items()}
            for shown in document.sets
        },
        compared={shown.name: _comparison_table(shown) for shown in document.sets},
        maps={
            name: knowledge_map(results.before, results.after, results.decisions[name], discrete=discrete)
            for name in document.strategies
        },
        groups=_GROUPS,
        tau=_tau(document),
        discrete=discrete,
        has_flow=bool(results.flow),
        curves=_curves(results),
        refusing=refusing,
        categories=category_rows(outcomes_by_model(results, HELD_OUT), refusing),
        kinds=_KINDS,
        reasons=texts.REASONS,
        reason_names=texts.REASON_NAMES,
        job_json=_clean_json(document.job),
        embedded_json=embedded(document),
    )


def embedded(document: ReportDocument) -> Markup:
    """The document as JSON for a script element. It has no `<`, so nothing in it can end the element."""
    escaped = document.model_dump_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704 - the line above escapes the three characters that HTML interprets


def _clean_json(value: object) -> str:
    """Indented JSON for readers, each line through `plain_text`."""
    lines = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode().splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines]
    return "\n".join(" " * indent + texts.plain_text(line) for indent, line in zip(indents, lines, strict=True))


def _model_id(document: ReportDocument) -> str:
    model = document.job.get("base_model")
    return str(model.get("id", "")) if isinstance(model, dict) else ""


def _tau(document: ReportDocument) -> float | None:
    selection = document.job.get("selection")
    tau = selection.get("tau") if isinstance(selection, dict) else None
    return float(tau) if isinstance(tau, int | float) else None


def _facts(document: ReportDocument, main: ReportSet) -> list[tuple[str, str]]:
    facts = [
        ("Model M0", texts.plain_text(_model_id(document)) or "–"),
        ("Task", "open-ended questions" if document.task is Task.OPEN_ENDED else "multiple choice"),
        ("Training questions", texts.thousands(document.knowledge.questions)),
        ("Held-out questions", texts.thousands(main.questions)),
        ("Strategies", ", ".join(map(texts.name_of, document.strategies))),
        ("Seed", str(document.job.get("seed", "–"))),
    ]
    if document.knowledge.mean_letter_mass is not None:
        facts.append(("Probability on the letters", f"{texts.percent(document.knowledge.mean_letter_mass)} %"))
    return facts


def _comparison_table(results: ReportSet) -> ComparisonTable:
    """A few comparisons all lead; of many, only those of the strategy nearest to full CRaFT."""
    marks = whiskers([row.differences.ths for row in results.comparisons])
    rows = list(zip(results.comparisons, marks, strict=True))
    if len(rows) <= MAX_COMPARISONS:
        return ComparisonTable(leading=rows, others=[])
    leading = results.comparisons[0].model
    return ComparisonTable(
        leading=[row for row in rows if row[0].model == leading],
        others=[row for row in rows if row[0].model != leading],
    )


def _doubts(document: ReportDocument) -> list[str]:
    """A text that takes a result back stands before the result."""
    doubts = [each for each in document.findings if each.code is FindingCode.GAIN_FROM_BASE_REPLIES]
    return [f"{texts.name_of(which_of(each.source))}: {texts.plain_text(each.message)}" for each in doubts]


def _short(main: ReportSet) -> list[str]:
    """The results of the strategy nearest to full CRaFT, and its verdicts against M0 REFUSE and the others."""
    leading = main.comparisons[0].model
    own, basic = main.models[leading].micro, main.models[INITIAL_BASIC].micro
    summary = (
        f"{texts.name_of(leading)} answers {texts.percent(own.pc.value)} % right and "
        f"{texts.percent(own.pw.value)} % wrong, and refuses {texts.percent(own.pr.value)} %. "
        f"The untouched model answers "
        f"{texts.percent(basic.pc.value)} % right and {texts.percent(basic.pw.value)} % wrong."
    ).replace(" %", "\u00a0%")
    verdicts = [row.verdict for row in main.comparisons if row.model == leading and row.against != INITIAL_BASIC]
    return [summary, *verdicts]


def _curves(results: JobResults) -> list[tuple[str, CurveChart]]:
    tuned = {texts.name_of(which_of(name)): rows for name, rows in results.curves.items() if which_of(name)}
    rehearsed = {texts.stage_title(name): rows for name, rows in results.curves.items() if not which_of(name)}
    titled = (("Tuning: loss on the answer tokens", tuned), ("Rehearsal: loss on the answer tokens", rehearsed))
    return [(title, curve_chart(curves)) for title, curves in titled if any(curves.values())]


def _tone(estimate: EstimateView, good_sign: int) -> str:
    """The colour of a difference. It has one only where its interval does not contain 0."""
    if estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high:
        return "even"
    return "good" if (estimate.low > 0) == (good_sign > 0) else "bad"


def _best_ths(models: Mapping[str, ModelMetrics]) -> str | None:
    """The model with the highest defined THS; None if no model has a THS."""
    values = {name: metrics.micro.ths.value for name, metrics in models.items()}
    defined = {name: value for name, value in values.items() if value is not None}
    return max(defined, key=lambda name: defined[name]) if defined else None
