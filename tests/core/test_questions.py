"""Data rows become questions, or errors that name the wrong field; splits do not depend on the order of rows."""

import math
from typing import Any

import pytest

from craft.core.questions import ChoiceQuestion, OpenQuestion, Task, letters
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row, task_of_row
from craft.errors import DatasetInvalid

OPEN, CHOICE = Task.OPEN_ENDED, Task.MULTIPLE_CHOICE


def open_row(row: dict[str, Any]) -> OpenQuestion:
    question = question_from_row({"question": "Q?", **row}, task=OPEN)
    assert isinstance(question, OpenQuestion)
    return question


def choice_row(**row: Any) -> ChoiceQuestion:
    question = question_from_row({"question": "Q?", **row}, task=CHOICE)
    assert isinstance(question, ChoiceQuestion)
    return question


def refused(row: dict[str, Any], task: Task) -> RowInvalid:
    with pytest.raises(RowInvalid) as caught:
        question_from_row(row, task=task)
    return caught.value


def test_an_open_row_keeps_its_id_category_and_answers() -> None:
    row = {"id": "007", "question": " Who? ", "answers": ["Bond", "James Bond", "Bond"], "category": "film"}
    assert open_row(row) == OpenQuestion("007", "Who?", ("Bond", "James Bond"), "film")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        ("👩\u200d🔬-1", "👩\u200d🔬-1"),
        ("e\u0301", "e\u0301"),
        ("שאלה-1", "שאלה-1"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_an_id_is_a_number_or_any_text_that_shows(given: object, taken: str) -> None:
    assert open_row({"id": given, "answer": "x"}).id == taken


def test_answer_comes_before_answers() -> None:
    assert open_row({"answer": "Au", "answers": ["gold", "Au"]}).answers == ("Au", "gold")
    assert open_row({"answers": "Au"}).answers == ("Au",)


@pytest.mark.parametrize("absent", [None, "", "  ", math.nan])
def test_a_blank_id_and_category_count_as_absent(absent: object) -> None:
    question = open_row({"id": absent, "category": absent, "answer": "x"})
    assert question.category is None
    assert question.id.startswith("q_")


def test_a_missing_id_is_the_hash_of_the_content() -> None:
    first, again = open_row({"answer": "x"}), open_row({"answers": ["x"], "category": "c"})
    # sha256 of {"answers":["x"],"question":"Q?","task":"open_ended"}
    assert first.id == again.id == "q_3cd399b3e1b0c206"
    assert open_row({"answer": "y"}).id != first.id
    assert len(first.id) == len("q_") + 16


@pytest.mark.parametrize(
    ("answer", "index"), [("C", 2), ("c", 2), (2, 2), ("2", 2), ("Rome", 2), (" Rome ", 2), (0, 0)]
)
def test_the_right_option_by_letter_index_or_text(answer: object, index: int) -> None:
    question = choice_row(choices=["Paris", "London", "Rome"], answer=answer)
    assert question.answer == index
    assert question.answer_letter == "ABC"[index]
    assert question.letters == ("A", "B", "C")


@pytest.mark.parametrize(
    "choices",
    [
        [{"label": "1", "text": "ice"}, {"label": "2", "text": "fire"}, {"label": "3", "text": "air"}],
        {"label": ["1", "2", "3"], "text": ["ice", "fire", "air"]},
    ],
)
@pytest.mark.parametrize("answer", ["3", 3, "air"])
def test_labelled_options_go_by_their_labels(choices: object, answer: object) -> None:
    question = choice_row(choices=choices, answer=answer)
    assert question.choices == ("ice", "fire", "air")
    assert question.answer_letter == "C"


def test_an_answer_that_is_letter_and_text_of_one_option_is_clear() -> None:
    assert choice_row(choices=["A", "B", "AB", "O"], answer="B").answer == 1


@pytest.mark.parametrize(
    ("choices", "answer"),
    [(["O", "A", "B"], "A"), (["1", "2", "3"], "1"), (["same", "same"], "same")],
)
def test_an_answer_with_two_readings_is_refused(choices: list[str], answer: str) -> None:
    error = refused({"question": "Q?", "choices": choices, "answer": answer}, CHOICE)
    assert (error.field, error.excerpt) == ("answer", answer)


@pytest.mark.parametrize("count", [2, 26])
def test_two_to_26_options(count: int) -> None:
    options = [f"option {number}" for number in range(count)]
    assert choice_row(choices=options, answer=count - 1).answer_letter == letters(count)[-1]


@pytest.mark.parametrize("count", [1, 27])
def test_one_or_27_options_are_refused(count: int) -> None:
    options = [f"option {number}" for number in range(count)]
    assert refused({"question": "Q?", "choices": options, "answer": 0}, CHOICE).field == "choices"
    with pytest.raises(DatasetInvalid):
        letters(count)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"answer": "x"}, "question"),
        ({"question": "", "answer": "x"}, "question"),
        ({"question": " \n", "answer": "x"}, "question"),
        ({"question": 5, "answer": "x"}, "question"),
        ({"question": math.nan, "answer": "x"}, "question"),
        ({"question": "a\0b", "answer": "x"}, "question"),
        ({"question": "a\ud800b", "answer": "x"}, "question"),
        ({"question": "Q?"}, "answers"),
        ({"question": "Q?", "answer": " "}, "answer"),
        ({"question": "Q?", "answers": []}, "answers"),
        ({"question": "Q?", "answers": ["x", ""]}, "answers[1]"),
        ({"question": "Q?", "answers": [None]}, "answers[0]"),
        ({"question": "Q?", "answers": [math.inf]}, "answers[0]"),
        ({"question": "Q?", "answers": [1e30]}, "answers[0]"),
        ({"question": "Q?", "answer": math.nan}, "answers"),
        ({"question": "Q?", "answers": {"x": 1}}, "answers"),
        ({"question": "Q?", "answers": ["the", "?!"]}, "answers"),
        ({"question": "Q?", "answer": "x", "id": [1]}, "id"),
        ({"question": "Q?", "answer": "x", "category": {"a": 1}}, "category"),
        ({"question": "Q?", "answer": "x", "id": "i" * 201}, "id"),
        ({"question": "Q?", "answer": "x", "id": "a\nb"}, "id"),
        ({"question": "Q?", "answer": "x", "id": "a\u202eb"}, "id"),
        ({"question": "Q?", "answer": "x", "id": "a\u2028b"}, "id"),
        ({"question": "Q?", "answer": "x", "id": "\u200d\u200d"}, "id"),
        ({"question": "Q?", "answer": "x", "id": "a\ud800"}, "id"),
    ],
)
def test_an_open_row_names_the_wrong_field(row: dict[str, Any], field: str) -> None:
    assert refused(row, OPEN).field == field


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"answer": 0}, "choices"),
        ({"choices": "a b", "answer": 0}, "choices"),
        ({"choices": ["a", ""], "answer": 0}, "choices[1]"),
        ({"choices": ["a", "b"]}, "answer"),
        ({"choices": ["a", "b"], "answer": 2}, "answer"),
        ({"choices": ["a", "b"], "answer": -1}, "answer"),
        ({"choices": ["a", "b"], "answer": 0.5}, "answer"),
        ({"choices": ["a", "b"], "answer": True}, "answer"),
        ({"choices": ["x", "y"], "answer": "C"}, "answer"),
        ({"choices": ["x", "y"], "answer": "2"}, "answer"),
        ({"choices": {"label": ["A"], "text": ["x", "y"]}, "answer": "A"}, "choices"),
        ({"choices": {"label": ["A", "A"], "text": ["x", "y"]}, "answer": "A"}, "choices"),
        ({"choices": [{"label": "A", "text": "x"}, "y"], "answer": "A"}, "choices[1].label"),
        ({"choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "answer": "C"}, "answer"),
    ],
)
def test_a_choice_row_names_the_wrong_field(row: dict[str, Any], field: str) -> None:
    assert refused({"question": "Q?", **row}, CHOICE).field == field


def test_an_excerpt_is_short_and_printable() -> None:
    error = refused({"question": "\0" + "x" * 500, "answer": "x"}, OPEN)
    assert error.excerpt is not None
    assert len(error.excerpt) == 120
    assert error.excerpt.isprintable()
    assert str(error) == "question: holds a NUL character"


@pytest.mark.parametrize("choices", [None, [], ["a", "b"]])
def test_rows_with_choices_need_their_task_said(choices: list[str] | None) -> None:
    row = {"question": "Q?", "answer": "A", "choices": choices}
    for said in (OPEN, CHOICE):
        assert task_of_row(row, said) is said
    if not choices:
        assert task_of_row(row, None) is OPEN
        return
    with pytest.raises(DatasetInvalid, match="no `task` was said") as caught:
        task_of_row(row, None)
    assert caught.value.param == "task"
