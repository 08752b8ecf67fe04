"""Findings in a terminal: of a validated job, of a refused one, and of a report."""

import json
from pathlib import Path

from tests.services.cli.answering import answering
from tests.services.cli.tables.test_estimates import known
from typer.testing import CliRunner

from craft.contracts.findings import Finding, findings_of
from craft.contracts.problems import Problem
from craft.core.findings import Acceptance, FindingCode
from craft.errors import DatasetInvalid, FindingDetail, Severity
from craft_cli.main import app
from craft_cli.tables.cells import finding_lines

RUNNER = CliRunner()
LONG = FindingDetail(
    code=FindingCode.ROWS_TOO_LONG,
    severity=Severity.ERROR,
    message="12 rows are too long.",
    hint="Shorten them.",
    count=12,
    lines=(4, 9),
    examples=("Who\x1b[31m?",),
)


def test_a_finding_shows_its_words_places_excerpts_and_hint() -> None:
    assert list(finding_lines(findings_of([LONG]))) == [
        "[error] rows_too_long: 12 rows are too long.",
        "  Lines: 4, 9, …",
        "  For example: Who\ufffd[31m?",
        "  Hint: Shorten them.",
    ]


def test_an_accepted_error_stays_visible() -> None:
    [line, *_] = finding_lines(findings_of(Acceptance.of(["rows_too_long"]).apply([LONG])))
    assert line == "[accepted] rows_too_long: 12 rows are too long."


def test_validate_shows_the_findings(tmp_path: Path) -> None:
    noticed = Finding(code=FindingCode.ANSWERS_REFUSE, severity=Severity.WARNING, message="4 rows refuse.")
    view = known().model_copy(update={"findings": [noticed]})
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps({"base_model": {"id": "a/b"}, "dataset": {"rows": [{"question": "Q", "answer": "A"}]}}))
    with answering(view.model_dump_json().encode()) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "validate", str(spec), "--url", url])
    assert result.exit_code == 0
    assert "[warning] answers_refuse: 4 rows refuse." in result.output


def test_a_refusal_shows_the_findings_that_caused_it(tmp_path: Path) -> None:
    problem = Problem.of(DatasetInvalid("12 rows are too long.", findings=[LONG]))
    spec = tmp_path / "job.json"
    spec.write_text(json.dumps({"base_model": {"id": "a/b"}, "dataset": {"rows": [{"question": "Q", "answer": "A"}]}}))
    with answering(problem.model_dump_json().encode(), status=422) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "submit", str(spec), "--url", url])
    assert result.exit_code == 2
    assert "Lines: 4, 9, …" in result.output
