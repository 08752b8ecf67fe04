"""The report has the right numbers, renders for all kinds of job, and shows hostile text as text."""

import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from craft.contracts.documents.report import ReportDocument
from craft.contracts.stages.rows import EVALUATION_FILE, REPORT_HTML, REPORT_JSON
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft_gateway.job_views.report_sections import reuse_in_html
from craft_scoring.report.stage import report

MakeJob = Callable[..., Any]
NEEDS_NO_CLOSING = {"meta", "br"}
OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "p", "h1", "h2", "h3", "dl", "dt", "dd", "div",
    "nav", "a", "ul", "li", "section", "table", "thead", "tbody", "tr", "th", "td", "small", "span", "br", "b", "bdi",
    "svg", "rect", "path", "line", "text", "g", "details", "summary", "input", "label", "pre",
    "code", "footer", "script",
}  # fmt: skip
PAYLOADS = [
    "<script>alert(1)</script>", "</script><script>alert(2)</script>", "</title></style><img src=x onerror=alert(3)>",
    "\" onmouseover=\"alert(4)", "'><svg onload=alert(5)>", "{{ 7 * 7 }}{% raw %}", "]]><!-- <b>",
    "javascript:alert(6)", "\u202egnp.exe", "\u2066\u2069\x1b[31mred\x1b[0m\x07", "</bdi></td></tr></table>",
    "&lt;script&gt;", "<!--<script>", "Столица какой страны?", "澳大利亚的首都是哪里？", "ما هي عاصمة فرنسا؟",
    "🧑‍🚀" * 3, "a" * 5000,
]  # fmt: skip


class Elements(HTMLParser):
    """Counts elements and checks that they nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in NEEDS_NO_CLOSING | {"input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)


def _payload(category: str, number: int) -> str:
    return PAYLOADS[number % len(PAYLOADS)]


def _reported(job: Any) -> tuple[ReportDocument, str]:
    context = job.context()
    report(job.parameters(), context)
    document = ReportDocument.model_validate_json((context.output / REPORT_JSON).read_bytes())
    return document, (context.output / REPORT_HTML).read_text(encoding="utf-8")


def _parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    elements.close()
    assert elements.open == []
    assert elements.found.keys() <= OUR_TAGS
    return elements


def test_report_has_the_evaluations_numbers(made_up_job: MakeJob) -> None:
    job = made_up_job()
    document, html = _reported(job)
    held_out = document.sets[0]
    assert list(held_out.models) == ["initial_basic", "initial_refuse", "craft", "cor-rait"]
    stored = json.loads((job.folders["evaluate:craft"] / EVALUATION_FILE).read_bytes())
    assert held_out.models["craft"].model_dump() == stored["sets"]["held_out"]["candidate"]
    by_pair = {(row.model, row.against): row for row in held_out.comparisons}
    versus = stored["sets"]["held_out"]["versus_initial_refuse"]
    assert by_pair["craft", "initial_refuse"].differences.model_dump() == versus
    ths = {name: metrics.micro.ths.value or 0.0 for name, metrics in held_out.models.items()}
    assert ths["craft"] != 0.0
    assert by_pair["craft", "cor-rait"].differences.ths.value == pytest.approx(ths["craft"] - ths["cor-rait"])
    shown = "".join(_parsed(html).text)
    assert by_pair["craft", "cor-rait"].verdict in shown
    assert "threshold relaxed from 0.99 to 0.9" in shown
    assert "5.23.0" in shown


def test_every_training_question_is_accounted_for(made_up_job: MakeJob) -> None:
    document, html = _reported(made_up_job())
    for chosen in document.selection.values():
        assert chosen.van + chosen.idk + sum(chosen.dropped.values()) == 300
        assert {example.reason for example in chosen.examples} == set(chosen.dropped)
    maps = re.findall(r'aria-label="Before rehearsal: M0: one dot for each question">(.*?)</svg>', html, re.DOTALL)
    assert len(maps) == 2
    assert [sum(path.count("h0") for path in re.findall(r' d="([^"]*)"', drawn)) for drawn in maps] == [300, 300]


def test_costs_say_who_shares_a_stage(made_up_job: MakeJob) -> None:
    document, _ = _reported(made_up_job(strategies=[Strategy.CRAFT, Strategy.COR_RAIT]))
    cost = {row.stage: row for row in document.cost}
    assert cost["probe:initial"].shared_by == ["craft", "cor-rait"]
    assert cost["probe:rehearsed"].shared_by == ["craft"]
    assert cost["tune:cor-rait"].shared_by == ["cor-rait"]
    assert (cost["probe:initial"].prompt_tokens, cost["probe:initial"].prefilled_tokens) == (412_000, 31_500)
    assert list(cost)[:4] == ["ingest", "probe:initial", "score:initial", "rehearsal_set"]
    assert all(row.reused is None for row in document.cost)


def test_the_served_report_can_mark_what_a_job_reused(made_up_job: MakeJob) -> None:
    document, html = _reported(made_up_job())
    shown = reuse_in_html(html.encode(), ["probe:initial"]).decode()
    assert (html.count(">reused<"), shown.count(">reused<")) == (0, 1)
    assert shown.count(">computed<") == len(document.cost) - 1


def test_examples_are_of_their_kind(made_up_job: MakeJob) -> None:
    document, _ = _reported(made_up_job(held_out=400))
    for examples in document.examples.values():
        assert {example.kind for example in examples} == {"right", "refused", "over_refused", "wrong"}
        for example in examples:
            if example.kind in {"refused", "over_refused"}:
                assert example.reply == "I don't know."
                assert (example.accepted[0] in example.initial_reply) == (example.kind == "over_refused")


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize(
    "strategies", [[Strategy.CRAFT], [Strategy.VAN_TUNING], [Strategy.COR_RAIT, Strategy.CRAFT_NO_FLOW], list(Strategy)]
)
def test_every_shape_of_job_renders(made_up_job: MakeJob, task: Task, strategies: list[Strategy]) -> None:
    document, html = _reported(made_up_job(task=task, strategies=strategies, train=120, held_out=60, resamples=100))
    elements = _parsed(html)
    rehearses = any(strategy.needs_flow for strategy in strategies)
    assert (document.knowledge.improved is not None) == rehearses
    assert ("After rehearsal: one dot" in html) == rehearses
    assert (document.knowledge.mean_letter_mass is not None) == (task is Task.MULTIPLE_CHOICE)
    assert len(document.sets[0].comparisons) == 2 * len(strategies) + len(strategies) * (len(strategies) - 1) // 2
    assert "Out-of-domain" not in "".join(elements.text)


def test_further_sets_have_their_own_tables(made_up_job: MakeJob) -> None:
    document, html = _reported(made_up_job(further={"trivia-night": 40, "another": 30}))
    assert [shown.name for shown in document.sets] == ["held_out", "another", "trivia-night"]
    assert [shown.role.value for shown in document.sets] == ["held_out", "out_of_domain", "out_of_domain"]
    shown = "".join(_parsed(html).text)
    assert "trivia-night · 40 questions" in shown


def test_questions_without_categories_and_empty_rehearsal_curves_render(made_up_job: MakeJob) -> None:
    document, html = _reported(made_up_job(categories=None))
    assert list(document.sets[0].models["craft"].categories) == ["uncategorised"]
    _parsed(html)


def test_many_categories_are_folded_into_one_row(made_up_job: MakeJob) -> None:
    _, html = _reported(made_up_job(categories={f"c{n}": 0.5 for n in range(80)}, held_out=160))
    section = html.split('id="categories"')[1].split("</section>")[0]
    assert section.count("<tr>") == 1 + 30
    assert "all others" in section


def test_an_undefined_ths_is_a_dash_with_its_reason(made_up_job: MakeJob) -> None:
    document, html = _reported(made_up_job(initial_right=True))
    assert document.sets[0].models["craft"].micro.ths.value is None
    assert "cannot be compared by THS" in document.sets[0].comparisons[0].verdict
    elements = _parsed(html)
    assert ("span", "title", document.sets[0].models["craft"].micro.ths.reason) in elements.attributes
    assert "None" not in "".join(elements.text)
    assert "nan" not in "".join(elements.text)


def test_payloads_in_questions_replies_and_names_are_only_text(made_up_job: MakeJob) -> None:
    job = made_up_job(
        train=90, held_out=90, categories=dict.fromkeys([*PAYLOADS[:6], "plain"], 0.5),
        wording=_payload,
    )  # fmt: skip
    parameters = job.parameters()
    spec = parameters.job | {"name": PAYLOADS[1], "labels": {PAYLOADS[2]: PAYLOADS[0]}}
    context = job.context()
    report(parameters.model_copy(update={"job": spec}), context)
    html = (context.output / REPORT_HTML).read_text(encoding="utf-8")
    elements = _parsed(html)
    assert elements.found["script"] == 1
    assert {name for _, name, _ in elements.attributes if name.startswith("on")} == set()
    assert [
        value for _, name, value in elements.attributes if name in {"href", "src"} and not (value or "").startswith("#")
    ] == []
    shown = "".join(elements.text)
    for character in "\u202e\u2066\u2069\x1b\x07":
        assert character not in shown
    assert "<script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }}" in shown


def test_embedded_json_is_the_document_and_cannot_end_its_element(made_up_job: MakeJob) -> None:
    job = made_up_job(wording=_payload)
    document, html = _reported(job)
    embedded = html.split('<script type="application/json" id="report">')[1].split("</script>")[0]
    assert ReportDocument.model_validate_json(embedded) == document
    assert "<" not in embedded


def test_nothing_can_be_fetched_or_run(made_up_job: MakeJob) -> None:
    _, html = _reported(made_up_job())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy.group(1).startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"https?://|url\(|@import", html)


def test_the_same_artifacts_give_the_same_bytes(made_up_job: MakeJob) -> None:
    job = made_up_job()
    assert _reported(job)[1] == _reported(job)[1]


def test_five_thousand_questions_and_five_strategies_stay_small_and_quick(made_up_job: MakeJob, tmp_path: Path) -> None:
    job = made_up_job(train=5000, held_out=600, strategies=list(Strategy))
    started = time.monotonic()
    _, html = _reported(job)
    assert time.monotonic() - started < 10
    assert len(html.encode()) < 3_000_000
