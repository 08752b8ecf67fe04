"""Tests of findings as they pass between processes."""

from craft.contracts.findings import Finding, findings_of
from craft.contracts.problems import Problem, StageError
from craft.core.findings import FindingCode
from craft.errors import DatasetInvalid, FindingDetail, Severity

_DETAIL = FindingDetail(
    code=FindingCode.REPEATED_QUESTIONS,
    severity=Severity.ERROR,
    message="Two rows ask the same.",
    hint="Remove one.",
    field="question",
    count=2,
    lines=(3, 9),
    examples=("Who?",),
)


def test_a_finding_survives_the_way_there_and_back() -> None:
    [found] = findings_of([_DETAIL])
    assert Finding.model_validate_json(found.model_dump_json()).to_detail() == _DETAIL


def test_a_problem_and_a_stage_error_carry_the_findings() -> None:
    error = DatasetInvalid("Two rows ask the same.", findings=[_DETAIL])
    assert Problem.of(error).findings == StageError.of(error).findings == findings_of([_DETAIL])
