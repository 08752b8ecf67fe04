"""The report tells what was noticed, right after its summary, once each and with hostile text as text."""

from collections.abc import Callable
from typing import Any

from craft.contracts.documents.report import ReportDocument
from craft.contracts.findings import Finding
from craft.contracts.stages.rows import REPORT_HTML, REPORT_JSON
from craft.core.findings import FindingCode
from craft.errors import Severity
from craft_scoring.report.stage import report

MakeJob = Callable[..., Any]
TOGETHER = Finding(
    code=FindingCode.KEPT_TOGETHER,
    severity=Severity.WARNING,
    message="72 rows ask what other rows ask too.",
    hint="Keep one row for each.",
    count=72,
    lines=[1, 3, 5],
    examples=["<script>alert(1)</script>", "\u202egnp.exe", "Who?"],
)
ACCEPTED = Finding(
    code=FindingCode.ROWS_TOO_LONG,
    severity=Severity.WARNING,
    accepted=True,
    message="3 rows are longer than the model takes.",
    count=3,
)


def reported(job: Any, *found: Finding) -> tuple[ReportDocument, str]:
    context = job.context()
    report(job.parameters().model_copy(update={"findings": list(found)}), context)
    document = ReportDocument.model_validate_json((context.output / REPORT_JSON).read_bytes())
    return document, (context.output / REPORT_HTML).read_text(encoding="utf-8")


def test_findings_of_the_job_and_of_stages_stand_once_with_accepted_errors_first(made_up_job: MakeJob) -> None:
    document, _ = reported(made_up_job(noticed=[TOGETHER, ACCEPTED]), TOGETHER)
    assert [(each.code, each.source) for each in document.findings] == [
        (FindingCode.ROWS_TOO_LONG, "ingest"),
        (FindingCode.KEPT_TOGETHER, "job"),
    ]


def test_the_page_has_a_box_of_findings_between_summary_and_results(made_up_job: MakeJob) -> None:
    _, html = reported(made_up_job(noticed=[TOGETHER]), ACCEPTED)
    box = html[html.index("What to know before you trust this") : html.index('<section id="results">')]
    assert html.index(">In short<") < html.index("What to know before you trust this")
    assert "Error, accepted by the job</b> · The job: <bdi>3 rows are longer" in box
    assert "Warning</b> · Read and split the dataset: <bdi>72 rows ask what other rows ask too." in box
    assert "72 times; lines 1, 3, 5 …" in box
    assert "Keep one row for each." in box
    assert "<script>" not in box
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in box
    assert "\u202e" not in box


def test_nothing_noticed_shows_no_box(made_up_job: MakeJob) -> None:
    document, html = reported(made_up_job())
    assert document.findings == []
    assert "What to know before you trust this" not in html
