"""What rows show is counted by kind and field, in little memory, and said with lines, examples and what to do."""

import pytest

from craft.core.findings import FindingCode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question
from craft.core.rows.answers import RowNote
from craft.core.rows.findings.rows import NoticedRows
from craft.core.rows.findings.unread import unread_findings
from craft.core.rows.question_hashes import AskedBefore, Repetition
from craft.errors import FindingDetail, Severity


def asked(*answers: str, question: str = "Why?") -> OpenQuestion:
    return OpenQuestion("id", question, answers)


def found(*questions: Question) -> dict[str, FindingDetail]:
    findings = NoticedRows()
    for line, question in enumerate(questions, start=1):
        findings.add_question(question, line)
    return {each.code: each for each in findings.findings(lambda field: f"own {field}")}


def test_control_tokens_are_an_error_in_each_field_with_lines_and_examples() -> None:
    rows = [asked("because", f"so {n}</s>", f"and {n}</s>") for n in range(20)]
    detail = found(*rows)[FindingCode.CONTROL_TOKENS]
    assert (detail.severity, detail.field, detail.count) == (Severity.ERROR, "own answers", 20)
    assert detail.lines == tuple(range(1, 11))
    assert detail.examples == ("so 0</s>", "so 1</s>", "so 2</s>")
    assert detail.message.startswith("20 rows have control tokens or chat markup in `own answers`.")
    in_question = found(asked("a", question="<|im_end|>Why?"))[FindingCode.CONTROL_TOKENS]
    assert (in_question.field, in_question.count, in_question.message[:9]) == ("own question", 1, "1 row has")


def test_a_choice_rows_texts_are_looked_at_too() -> None:
    row = ChoiceQuestion("id", "Which?", ("x<eos>", "Unknown", "A"), 0)
    findings = found(row, row, row)
    assert findings.keys() == {FindingCode.CONTROL_TOKENS}
    assert findings[FindingCode.CONTROL_TOKENS].field == "own choices"


def test_a_stop_mark_counts_where_most_rows_have_it() -> None:
    detail = found(asked("Paris END"), asked("Rome END"), asked("x"))[FindingCode.CONTROL_TOKENS]
    assert (detail.count, detail.severity) == (2, Severity.ERROR)
    assert detail.message.startswith("2 rows have the mark in `own answers`")
    assert FindingCode.CONTROL_TOKENS not in found(asked("THE END"), asked("x"), asked("y"))
    assert FindingCode.CONTROL_TOKENS not in found(asked("THE END"))


def test_html_is_a_warning() -> None:
    detail = found(asked("Tom &amp; Jerry"), asked("x"))[FindingCode.HTML_MARKUP]
    assert (detail.severity, detail.lines, detail.examples) == (Severity.WARNING, (1,), ("Tom &amp; Jerry",))


@pytest.mark.parametrize(
    "refusal", ["I don't know", "I don’t know.", "idk", "dunno", "Unknown", "I have no idea.", "我不知道"]
)
def test_an_answer_that_is_a_refusal_is_a_warning(refusal: str) -> None:
    detail = found(asked("Paris", refusal), asked("x"))[FindingCode.ANSWERS_REFUSE]
    assert (detail.severity, detail.lines) == (Severity.WARNING, (1,))


@pytest.mark.parametrize("answer", ["No", "I know it: Paris", "The Unknown Soldier", "x" * 300 + " I don't know"])
def test_an_answer_is_no_refusal(answer: str) -> None:
    assert FindingCode.ANSWERS_REFUSE not in found(asked(answer), asked("x"))


@pytest.mark.parametrize(
    "answers",
    [
        list("ABCA"),
        list("bbb"),
        ["(A)", "B.", "c)"],
        ["Answer: A", "option b", "Choice (C)"],
        ["A", "BD", "ACD"],
        list("ABCD") * 5 + ["Paris"],
        list("①②③"),
        list("0123") * 3,
        list("1" * 10),
    ],
)
def test_answers_that_are_all_labels_are_an_error(answers: list[str]) -> None:
    detail = found(*(asked(answer) for answer in answers))[FindingCode.LABEL_ANSWERS]
    assert (detail.severity, detail.count) == (Severity.ERROR, len(answers) - answers.count("Paris"))
    assert '{"choices": ["A", "B", "C"]}' in str(detail.hint)


@pytest.mark.parametrize(
    "answers",
    [
        ["A", "B"],
        list("0123"),
        ["A", "B", "Paris"],
        ["A", "B", "C", "1"],
        ["7"] * 20,
        ["C++"] * 5,
        ["DNA", "BA", "CAB"],
    ],
)
def test_other_short_answers_are_no_labels(answers: list[str]) -> None:
    assert FindingCode.LABEL_ANSWERS not in found(*(asked(answer) for answer in answers))


def test_a_row_with_several_answers_is_no_label() -> None:
    assert FindingCode.LABEL_ANSWERS not in found(asked("A"), asked("B"), asked("C", "D"))


def test_notes_are_counted_once_a_row_under_the_field_without_positions() -> None:
    findings = NoticedRows()
    notes = [RowNote(FindingCode.VALUES_AS_TEXT, f"answers[{n}]", str(n)) for n in range(3)]
    findings.add_notes(notes, 4)
    findings.add_notes(notes[:1], 9)
    (detail,) = findings.findings(str)
    assert (detail.field, detail.count, detail.lines, detail.examples) == ("answers", 2, (4, 9), ("0",))


@pytest.mark.parametrize(
    ("lists", "plain", "severity"),
    [(1, 3, Severity.ERROR), (2, 0, Severity.WARNING), (1, 0, Severity.WARNING)],
)
def test_a_list_of_numbers_among_plain_answers_is_an_error(lists: int, plain: int, severity: Severity) -> None:
    findings = NoticedRows()
    for line in range(1, lists + 1):
        findings.add_notes([RowNote(FindingCode.NUMBER_LISTS, "answers", "[0, 1]")], line)
        findings.add_question(asked("0", "1"), line)
    for line in range(lists + 1, lists + plain + 1):
        findings.add_question(asked("Paris"), line)
    (detail,) = findings.findings(str)
    assert (detail.code, detail.severity, detail.count) == (FindingCode.NUMBER_LISTS, severity, lists)
    assert '["[0, 1]"]' in str(detail.hint)


def test_repetitions_are_told_apart() -> None:
    findings, question = NoticedRows(), asked("a")
    findings.add_repetition(question, Repetition(1, contradicts=False), 2, is_kept=False)
    findings.add_repetition(question, Repetition(1, contradicts=False), 3, is_kept=True)
    findings.add_repetition(question, Repetition(1, contradicts=True), 4, is_kept=True)
    details = findings.findings(str)
    assert [(each.code, each.severity, each.lines) for each in details] == [
        (FindingCode.REPEATED_ROWS, Severity.WARNING, (2,)),
        (FindingCode.REPEATED_QUESTIONS, Severity.WARNING, (3,)),
        (FindingCode.CONTRADICTING_ROWS, Severity.ERROR, (4,)),
    ]
    assert details[0].examples == ("line 1: Why?",)


def repetitions(*questions: Question) -> list[Repetition | None]:
    before = AskedBefore()
    return [before.seen(question, line) for line, question in enumerate(questions, start=1)]


def test_a_question_that_comes_again_contradicts_with_another_answer_only() -> None:
    found = repetitions(
        asked("Paris"),
        asked("paris", question="why"),
        asked("Rome"),
        asked("Rome", "Roma"),
        asked("Roma", "Rome"),
        asked("x", question="Why not?"),
    )
    contradicting = [each.contradicts if each else None for each in found]
    assert contradicting == [None, False, True, False, False, None]
    assert {each.first_line for each in found if each} == {1}


def test_arithmetic_that_differs_in_its_signs_is_not_the_same_question() -> None:
    assert repetitions(asked("4", question="What is 2+2?"), asked("0", question="What is 2-2?")) == [None, None]


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Who sang “Hello”?", 'Who sang "Hello"?'),
        ("Who is José?", "Who is Jose\u0301?"),
        ("Who is\u200b it?", "Who is it?"),
        ("Who ruled 1990–1995?", "Who ruled 1990-1995?"),
    ],
)
def test_a_question_in_another_writing_is_the_same(first: str, again: str) -> None:
    found = repetitions(asked("x", question=first), asked("y", question=again))
    assert found == [None, Repetition(1, contradicts=True)]


@pytest.mark.parametrize("again", ["adele.", "The Adele", '"Adele"', "ADELE!"])
def test_an_answer_in_another_writing_contradicts_nothing(again: str) -> None:
    assert repetitions(asked("Adele"), asked(again)) == [None, Repetition(1, contradicts=False)]


def test_answers_of_marks_only_and_of_another_sign_are_other_answers() -> None:
    found = repetitions(asked("5"), asked("-5"), asked("!"), asked("?"))
    assert [each.contradicts for each in found if each] == [True, True, True]


def test_questions_with_other_options_are_other_questions() -> None:
    first = ChoiceQuestion("a", "Which is true?", ("x", "y"), 0)
    shuffled = ChoiceQuestion("b", "Which is true?", ("y", "x"), 1)
    contradicting = ChoiceQuestion("c", "Which is true?", ("x", "y"), 1)
    other = ChoiceQuestion("d", "Which is true?", ("x", "z"), 0)
    found = repetitions(first, shuffled, contradicting, other)
    assert found == [None, Repetition(1, contradicts=False), Repetition(1, contradicts=True), None]


def test_a_context_that_is_not_read_has_stronger_words_and_every_other_column_is_listed_once() -> None:
    filled = {"question": 9, "Context": 9, "input": 2, "note": 1, "empty": 0}
    first, second, rest = unread_findings(filled, {"question"}, rows=9)
    assert (first.code, first.field, first.count) == (FindingCode.UNREAD_CONTEXT, "Context", 9)
    assert "in 2 of 9 rows" in second.message
    assert (rest.code, rest.message) == (FindingCode.UNREAD_COLUMNS, "Columns that are not read: `note`.")
    assert unread_findings({"question": 9, "empty": 0}, {"question"}, rows=9) == []


def test_at_most_twenty_unread_columns_are_named() -> None:
    (detail,) = unread_findings({f"c{n}": 1 for n in range(25)}, set(), rows=1)
    assert (detail.count, detail.message.endswith("`c19` and 5 more.")) == (25, True)
