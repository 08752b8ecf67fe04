"""Texts that can be read, and are hardly meant so, are warnings."""

import pytest

from craft.core.findings import FindingCode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question
from craft.core.rows.findings.rows import NoticedRows
from craft.errors import FindingDetail, Severity


def asked(*answers: str) -> OpenQuestion:
    return OpenQuestion("id", "Why?", answers)


def found(*questions: Question) -> dict[str, FindingDetail]:
    findings = NoticedRows()
    for line, question in enumerate(questions, start=1):
        findings.add_question(question, line)
    return {each.code: each for each in findings.findings(str)}


@pytest.mark.parametrize("answer", ["nan", "NaN", "None", "null", "N/A", "<NA>", "undefined"])
def test_what_programs_write_for_no_answer_is_a_warning(answer: str) -> None:
    detail = found(asked("Paris"), asked(answer))[FindingCode.PLACEHOLDER_TEXTS]
    assert (detail.severity, detail.field, detail.lines) == (Severity.WARNING, "answers", (2,))


@pytest.mark.parametrize("answer", ["Na", "Nan Goldin", "nones", "zero"])
def test_other_short_answers_are_no_placeholders(answer: str) -> None:
    assert FindingCode.PLACEHOLDER_TEXTS not in found(asked(answer))


@pytest.mark.parametrize("answer", ["x; y; z", "Adele|Adele Adkins", "Adele\nAdkins", "a;b", "'x'; 'y'"])
def test_many_answers_that_look_like_several_are_a_warning(answer: str) -> None:
    detail = found(asked(answer), asked("x"), asked("y"))[FindingCode.UNSPLIT_ANSWERS]
    assert (detail.severity, detail.count, detail.examples) == (Severity.WARNING, 1, (answer.replace("\n", "\\n"),))
    assert '["a", "b"]' in str(detail.hint)
    assert FindingCode.UNSPLIT_ANSWERS not in found(asked(answer), *[asked("x")] * 3)
    assert FindingCode.UNSPLIT_ANSWERS not in found(asked(answer, "x"))


@pytest.mark.parametrize("answer", ["P(A|B)", "|x|", "Tom &amp; Jerry", "{1; 2}", "a;", "x"])
def test_marks_in_formulas_and_entities_separate_nothing(answer: str) -> None:
    assert FindingCode.UNSPLIT_ANSWERS not in found(asked(answer))


def test_an_option_that_comes_twice_is_a_warning() -> None:
    twice = ChoiceQuestion("id", "Which?", ("x", "y", "x"), 0)
    detail = found(ChoiceQuestion("id", "Which?", ("x", "y"), 0), twice)[FindingCode.REPEATED_OPTIONS]
    assert (detail.severity, detail.field, detail.lines, detail.examples) == (
        Severity.WARNING,
        "choices",
        (2,),
        ("x",),
    )


def test_what_a_wrong_encoding_left_is_a_warning_in_each_field() -> None:
    detail = found(asked("CafÃ©"))[FindingCode.DAMAGED_CHARACTERS]
    assert (detail.severity, detail.field, detail.count) == (Severity.WARNING, "answers", 1)


def test_a_question_may_stand_for_none_too() -> None:
    detail = found(OpenQuestion("id", "nan", ("x",)))[FindingCode.PLACEHOLDER_TEXTS]
    assert (detail.field, detail.count) == ("question", 1)
