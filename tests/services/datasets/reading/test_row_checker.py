"""What a file's rows show is told at the door: as an error that can be accepted, or as a warning."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from craft.contracts.services.datasets import Reading
from craft.core.findings import FindingCode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question
from craft.errors import DatasetInvalid, FindingDetail, Severity
from craft_datasets.reading.formats import read_raw
from craft_datasets.reading.validation import CheckedRows, validate

CHOICE: dict[str, Any] = {"task": "multiple_choice"}


def checked(
    folder: Path, content: str | Iterable[dict[str, Any]], *, chat_lines: bool = False, **reading: Any
) -> tuple[CheckedRows, list[Question]]:
    path, questions = folder / "upload", list[Question]()
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(text.encode())
    order = Reading.model_validate(reading)
    raw = read_raw(path, max_line_bytes=10_000, columns=order.column_map, chat_lines=chat_lines)
    found = validate(raw, reading=order, max_rows=1000, sink=lambda question, _: questions.append(question))
    return found, questions


def refused(folder: Path, content: str | Iterable[dict[str, Any]], **reading: Any) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        checked(folder, content, **reading)
    return caught.value


def codes(findings: Sequence[FindingDetail]) -> list[tuple[str, str | None, Severity]]:
    return [(each.code, each.field, each.severity) for each in findings]


def test_an_error_finding_refuses_with_all_findings_unless_it_is_accepted(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "gold": "so<|eot_id|>", "note": "x"}]
    columns = {"question": "prompt", "answer": "gold"}
    error = refused(tmp_path, rows, columns=columns)
    assert codes(error.findings) == [
        (FindingCode.CONTROL_TOKENS, "gold", Severity.ERROR),
        (FindingCode.UNREAD_COLUMNS, None, Severity.WARNING),
    ]
    assert 'send "accept": ["control_tokens"]' in str(error.hint)
    found, questions = checked(tmp_path, rows, columns=columns, accept=["control_tokens"])
    assert [(each.code, each.severity, each.accepted) for each in found.findings] == [
        (FindingCode.CONTROL_TOKENS, Severity.WARNING, True),
        (FindingCode.UNREAD_COLUMNS, Severity.WARNING, False),
    ]
    assert len(questions) == 1


def test_clean_rows_have_no_finding(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "question": "Who?", "answers": ["I", "me"], "category": "c"},
        {"question": "Why?", "answer": "so"},
    ]
    found, _ = checked(tmp_path, rows)
    assert found.findings == []


@pytest.mark.parametrize("name", ["options", "choices"])
def test_options_without_a_task_are_refused_and_labels_as_answers_too(tmp_path: Path, name: str) -> None:
    rows = [{"question": f"q{n}", name: ["x", "y"], "answer": "AB"[n % 2]} for n in range(9)]
    assert "no `task` was said" in refused(tmp_path, rows).message
    error = refused(tmp_path, rows, task="open_ended")
    assert (FindingCode.LABEL_ANSWERS, "answer", Severity.ERROR) in codes(error.findings)
    found, questions = checked(tmp_path, rows, task="multiple_choice")
    assert found.findings == []
    assert all(isinstance(question, ChoiceQuestion) for question in questions)


@pytest.mark.parametrize("choices", [[None, None], [None, ["p", "q"]]])
def test_options_that_are_read_where_choices_are_empty_are_not_called_unread(
    tmp_path: Path, choices: list[list[str] | None]
) -> None:
    options = [["x", "y"] if each is None else None for each in choices]
    rows = [
        {"question": f"q{at}", "choices": each, "options": option, "answer": "A"}
        for at, (each, option) in enumerate(zip(choices, options, strict=True))
    ]
    found, questions = checked(tmp_path, rows, **CHOICE)
    assert found.findings == []
    assert [question.choices for question in questions if isinstance(question, ChoiceQuestion)] == [
        tuple(each or ("x", "y")) for each in choices
    ]
    both = [{**row, "choices": ["p", "q"], "options": ["x", "y"]} for row in rows]
    found, _ = checked(tmp_path, both, **CHOICE)
    assert "`options`" in found.findings[0].message


CSV_OPTIONS = "prompt,A,B,C,D,answer\nWhich gas do plants take in?,oxygen,carbon dioxide,neon,argon,B\n"


@pytest.mark.parametrize("columns", [{}, {"choices": ["A", "B", "C", "D"]}])
def test_a_column_for_each_option_is_read_with_or_without_a_map(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert "no `task` was said" in refused(tmp_path, CSV_OPTIONS, columns={"question": "prompt"}).message
    found, questions = checked(tmp_path, CSV_OPTIONS, columns={"question": "prompt", **columns}, **CHOICE)
    (question,) = questions
    assert isinstance(question, ChoiceQuestion)
    assert question.choices[question.answer] == "carbon dioxide"
    assert found.findings == []


def test_columns_that_count_from_1_say_the_base_of_the_keys_and_a_key_0_contradicts_them(tmp_path: Path) -> None:
    lines = "question,option1,option2,answer\nq,x,y,2\nr,x,y,1\n"
    for columns in ({}, {"choices": ["option1", "option2"]}):
        _, questions = checked(tmp_path, lines, columns=columns, **CHOICE)
        assert [each.answer for each in questions if isinstance(each, ChoiceQuestion)] == [1, 0]
    error = refused(tmp_path, "question,sol1,sol2,answer\nq,x,y,0\nr,x,y,1\n", **CHOICE)
    assert (FindingCode.ANSWER_BASE, "answer", Severity.ERROR) in codes(error.findings)
    assert "look 0-based" in str(error.hint)
    assert '"answer_base": 0' in str(error.hint)
    _, questions = checked(tmp_path, "question,sol1,sol2,answer\nq,x,y,0\n", answer_base=0, **CHOICE)
    assert isinstance(questions[0], ChoiceQuestion)
    assert questions[0].answer == 0


def keyed(*keys: object) -> list[dict[str, Any]]:
    return [{"question": f"q{n}", "choices": ["w", "x", "y", "z"], "answer": key} for n, key in enumerate(keys)]


@pytest.mark.parametrize("keys", [[4, 1, 2, 3], ["4", "1"], [1, 2, 3] * 5])
def test_keys_that_look_1_based_are_refused_until_the_request_says_the_base(tmp_path: Path, keys: list[object]) -> None:
    error = refused(tmp_path, keyed(*keys), **CHOICE)
    assert (FindingCode.ANSWER_BASE, "answer", Severity.ERROR) in codes(error.findings)
    assert "look 1-based" in f"{error.message} {error.hint}"
    assert '"answer_base": 1' in str(error.hint)
    found, questions = checked(tmp_path, keyed(*keys), answer_base=1, **CHOICE)
    assert [each.answer + 1 for each in questions if isinstance(each, ChoiceQuestion)] == [
        int(str(key)) for key in keys
    ]
    assert found.findings == []


def test_keys_with_a_0_among_them_are_not_doubted(tmp_path: Path) -> None:
    found, _ = checked(tmp_path, keyed(0, 1, 2, 3, 3), **CHOICE)
    assert found.findings == []


def test_repeated_rows_without_ids_are_taken_once(tmp_path: Path) -> None:
    rows = [{"question": f"q{n % 2}", "answers": ["a"]} for n in range(6)]
    found, questions = checked(tmp_path, rows)
    assert len(questions) == 2
    assert [(each.code, each.count, each.lines) for each in found.findings] == [
        (FindingCode.REPEATED_ROWS, 4, (3, 4, 5, 6))
    ]


def test_repeated_chat_lines_are_taken_once_too(tmp_path: Path) -> None:
    line = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "so"}]}
    found, questions = checked(tmp_path, [line, line], chat_lines=True)
    assert (len(questions), [each.code for each in found.findings]) == (1, [FindingCode.REPEATED_ROWS])


def test_an_id_that_comes_twice_is_a_row_error_with_the_first_line(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "q", "answer": "x"}] * 2
    (detail,) = refused(tmp_path, rows).details
    assert (detail.message, detail.line, detail.excerpt) == ("The id was used on line 1 already.", 2, "a")


@pytest.mark.parametrize("ids", [(None, None), ("a", "b"), ("a", None)])
def test_another_answer_to_the_same_question_contradicts(tmp_path: Path, ids: tuple[str | None, str | None]) -> None:
    rows = [{"id": id, "question": "q?", "answer": answer} for id, answer in zip(ids, "xy", strict=True)]
    error = refused(tmp_path, rows)
    assert codes(error.findings) == [(FindingCode.CONTRADICTING_ROWS, "question", Severity.ERROR)]
    assert error.findings[0].examples == ("line 1: q?",)
    _, questions = checked(tmp_path, rows, accept=["contradicting_rows"])
    assert len(questions) == 2


def test_of_contradicting_keys_without_ids_the_first_is_kept_if_they_are_accepted(tmp_path: Path) -> None:
    rows = [{"question": "q?", "choices": ["a", "b"], "answer": key} for key in (0, 1)]
    assert codes(refused(tmp_path, rows, **CHOICE).findings)[0][0] == FindingCode.CONTRADICTING_ROWS
    _, questions = checked(tmp_path, rows, accept=["contradicting_rows"], **CHOICE)
    assert [each.answer for each in questions if isinstance(each, ChoiceQuestion)] == [0]


def test_the_same_answer_under_another_id_is_a_warning(tmp_path: Path) -> None:
    rows = [{"id": id, "question": "q?", "answer": "x"} for id in "ab"]
    found, questions = checked(tmp_path, rows)
    assert len(questions) == 2
    assert codes(found.findings) == [(FindingCode.REPEATED_QUESTIONS, "question", Severity.WARNING)]


def test_a_context_that_is_not_read_is_named(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{n}", "input": "text" if n else "", "output": "o"} for n in range(3)]
    found, _ = checked(tmp_path, rows, columns={"question": "instruction", "answers": "output"})
    (finding,) = found.findings
    assert (finding.code, finding.field, finding.count) == (FindingCode.UNREAD_CONTEXT, "input", 2)
    assert "in 2 of 3 rows" in finding.message


def test_blanks_around_headers_are_said_and_read(tmp_path: Path) -> None:
    found, questions = checked(tmp_path, "question, answer\nq1, a1\n")
    assert isinstance(questions[0], OpenQuestion)
    assert questions[0].answers == ("a1",)
    assert [(each.code, each.count) for each in found.findings] == [(FindingCode.TRIMMED_HEADERS, 1)]
    assert "' answer'" in found.findings[0].message


@pytest.mark.parametrize(
    ("content", "columns", "lacking"),
    [
        ("prompt,completion\nq,a\n", {"question": "prompt"}, "answers"),
        ('{"question": "q", "gold": "a"}\n', {}, "answers"),
        ('{"prompt": "q", "answer": "a"}\n', {}, "question"),
        ('{"prompt": "q", "answer": "a"}\n', {"answers": "answer"}, "question"),
    ],
)
def test_a_needed_column_that_no_row_has_is_asked_for_beside_those_that_are_there(
    tmp_path: Path, content: str, columns: dict[str, str], lacking: str
) -> None:
    hint = str(refused(tmp_path, content, columns=columns).hint)
    assert f"no `{lacking}`: say with `columns` which is which" in hint
    assert "`prompt`" in hint or "`gold`" in hint


def test_choices_that_no_row_has_are_asked_for(tmp_path: Path) -> None:
    assert "no `choices`" in str(
        refused(tmp_path, [{"question": "q", "answer": "A", "alternatives": ["x", "y"]}], **CHOICE).hint
    )
    assert "Mend or remove" in str(
        refused(tmp_path, [{"question": "q", "answer": "A", "options": ["x"]}], **CHOICE).hint
    )


def test_what_a_choice_set_lacks_is_shown_with_its_own_names(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["x", "y"], "key": "A"}]
    assert '"answer": "answerKey"' in str(refused(tmp_path, rows, **CHOICE).hint)


def test_columns_of_blanks_are_not_called_unread(tmp_path: Path) -> None:
    found, _ = checked(tmp_path, "question,answer,, \nq,x, , \n")
    assert found.findings == []


def test_keys_that_are_numbers_with_a_point_are_the_same_in_csv_and_jsonl(tmp_path: Path) -> None:
    lines = "question,choices,answer\nq0,x|y,1.0\nq1,x|y,0.0\n"
    _, of_csv = checked(tmp_path, lines, **CHOICE)
    rows = [{"question": f"q{at}", "choices": ["x", "y"], "answer": key} for at, key in enumerate([1.0, 0.0])]
    _, of_jsonl = checked(tmp_path, rows, **CHOICE)
    assert of_csv == of_jsonl
    assert [each.answer for each in of_csv if isinstance(each, ChoiceQuestion)] == [1, 0]
    found = refused(tmp_path, [{**row, "answer": 2.0} for row in rows], **CHOICE)
    assert (FindingCode.ANSWER_BASE, "answer", Severity.ERROR) in codes(found.findings)


def test_turns_that_are_not_read_are_told(tmp_path: Path) -> None:
    roles = ["user", "assistant"] * 2
    rows = [{"turns": [{"role": role, "content": f"t{at}"} for at, role in enumerate(roles)]}]
    found, questions = checked(tmp_path, rows, columns={"messages": "turns"})
    assert questions[0].question == "t2"
    assert codes(found.findings) == [(FindingCode.EARLIER_TURNS, "turns", Severity.WARNING)]


def test_a_number_that_lost_digits_is_refused_with_what_to_do(tmp_path: Path) -> None:
    error = refused(tmp_path, '{"question": "q", "answer": 123456789012345678901234567890}\n')
    assert error.details[0].message == "`answer` is a number too large to keep its digits; send it as text."


def test_a_chat_column_gives_the_rows_that_chat_lines_give(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": " Why?"},
        {"role": "assistant", "content": "so"},
    ]
    _, mapped = checked(tmp_path, [{"messages": turns}], columns={"messages": "messages"})
    _, lines = checked(tmp_path, [{"messages": turns}], chat_lines=True)
    assert mapped == lines
    assert mapped[0].question == "Be brief.\n\nWhy?"


def test_legacy_completions_are_refused_by_their_marks(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}\n\n###\n\n", "completion": f" a{n} END"} for n in range(4)]
    error = refused(tmp_path, rows, columns={"question": "prompt", "answers": "completion"})
    assert codes(error.findings) == [
        (FindingCode.CONTROL_TOKENS, "prompt", Severity.ERROR),
        (FindingCode.CONTROL_TOKENS, "completion", Severity.ERROR),
    ]


def test_an_interval_among_plain_answers_is_asked_about_and_can_be_said(tmp_path: Path) -> None:
    lines = 'question,answers\nq1,Paris\nq2,Rome\nq3,"[0, 1]"\n'
    error = refused(tmp_path, lines)
    assert codes(error.findings) == [(FindingCode.NUMBER_LISTS, "answers", Severity.ERROR)]
    quoted = lines.replace('"[0, 1]"', '"[""[0, 1]""]"')
    _, questions = checked(tmp_path, quoted)
    assert isinstance(questions[2], OpenQuestion)
    assert questions[2].answers == ("[0, 1]",)
