"""Tests of findings: what stops the work, and what an acceptance changes."""

import pytest

from craft.core.findings import Acceptance, FindingCode, lines_finding
from craft.errors import DatasetInvalid, FindingDetail, Severity

_WARNING = FindingDetail(code=FindingCode.REPEATED_QUESTIONS, severity=Severity.WARNING, message="Twice.")
_ERROR = FindingDetail(code=FindingCode.REPEATED_QUESTIONS, severity=Severity.ERROR, message="Wrong.", field="answer")


def test_a_warning_stops_nothing() -> None:
    assert Acceptance().apply([_WARNING]) == [_WARNING]


def test_an_error_stops_and_names_the_code_that_accepts_it() -> None:
    with pytest.raises(DatasetInvalid) as raised:
        Acceptance().apply([_WARNING, _ERROR])
    assert raised.value.message == "Wrong."
    assert raised.value.param == "answer"
    assert raised.value.hint == ('Change the data. Or, if it is meant so, send "accept": ["repeated_questions"].')
    assert raised.value.findings == (_WARNING, _ERROR)


def test_an_accepted_error_is_a_warning_that_says_so() -> None:
    [found] = Acceptance.of(["repeated_questions"]).apply([_ERROR])
    assert found.severity is Severity.WARNING
    assert found.accepted


def test_rows_are_shown_by_their_first_lines_and_excerpts_and_counted_all() -> None:
    rows = [(line, f"Question {line}? " + "x" * 200) for line in range(1, 15)]
    found = lines_finding(FindingCode.ROWS_TOO_LONG, Severity.ERROR, "Too long.", rows, hint="Cut.", field="question")
    assert (found.count, found.lines, len(found.examples)) == (14, tuple(range(1, 11)), 3)
    assert {len(example) for example in found.examples} == {120}
