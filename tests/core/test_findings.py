"""Tests of findings: what stops the work, and what an acceptance changes."""

import pytest

from craft.core.findings import Acceptance, FindingCode
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
