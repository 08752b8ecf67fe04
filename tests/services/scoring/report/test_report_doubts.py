"""A gain that comes from cut replies of the base model is taken back in the report's first lines."""

from collections.abc import Callable
from typing import Any

import pytest

from craft.contracts.documents.report import ReportDocument
from craft.contracts.stages.artifacts import Manifest
from craft.contracts.stages.rows import REPORT_HTML, REPORT_JSON
from craft.core.findings import FindingCode
from craft.infra.storage.artifacts import MANIFEST_FILE
from craft_scoring import evaluation
from craft_scoring.report.stage import report

MakeJob = Callable[..., Any]


def reported(job: Any) -> tuple[ReportDocument, str]:
    context = job.context()
    report(job.parameters(), context)
    document = ReportDocument.model_validate_json((context.output / REPORT_JSON).read_bytes())
    return document, (context.output / REPORT_HTML).read_text(encoding="utf-8")


def first_line(html: str) -> str:
    box = html[html.index(">In short<") :]
    return box[box.index("<li>") + 4 : box.index("</li>")]


def test_a_gain_over_cut_replies_is_taken_back_in_the_first_line(made_up_job: MakeJob) -> None:
    job = made_up_job(cut_basic=120)
    document, html = reported(job)
    assert first_line(html).startswith(
        "CRaFT: M0 BASIC&#39;s reply was cut or could not be read for 120 of 150 questions, so its score"
    )
    doubts = [each for each in document.findings if each.code is FindingCode.GAIN_FROM_BASE_REPLIES]
    assert [each.source for each in doubts] == ["evaluate:craft", "evaluate:cor-rait"]
    assert doubts[0].examples[0].endswith("→ “<think>\\nOkay, the user” (cut; right: Answer0)")


def test_the_stage_evaluate_keeps_the_finding_in_its_manifest(made_up_job: MakeJob) -> None:
    folder = made_up_job(cut_basic=120).folders["evaluate:craft"]
    found = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes()).result.findings
    assert [(each.code, each.count) for each in found] == [(FindingCode.GAIN_FROM_BASE_REPLIES, 120)]


def test_a_gain_over_whole_replies_stands_as_it_is(made_up_job: MakeJob) -> None:
    document, html = reported(made_up_job())
    assert FindingCode.GAIN_FROM_BASE_REPLIES not in {each.code for each in document.findings}
    assert first_line(html).startswith("CRaFT answers")


def test_without_the_rule_the_report_boasts(made_up_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "gain_finding", lambda *_, **__: None)
    _, html = reported(made_up_job(cut_basic=120))
    assert first_line(html).startswith("CRaFT answers")
