"""Options come as a list, as labelled objects or in a column each; a key means exactly one of them."""

from typing import Any

import pytest

from craft.core.questions import ChoiceQuestion, Task
from craft.core.rows.fields import RowInvalid
from craft.core.rows.options import KeyOutOfRange, NumberKey, option_columns
from craft.core.rows.reader import ReadRow, read_row


def read(choices: object, answer: object, **more: Any) -> ReadRow:
    return read_row({"question": "Q?", "choices": choices, "answer": answer}, task=Task.MULTIPLE_CHOICE, **more)


def right_text(choices: object, answer: object, **more: Any) -> str:
    question = read(choices, answer, **more).question
    assert isinstance(question, ChoiceQuestion)
    return question.choices[question.answer]


def refused(choices: object, answer: object, **more: Any) -> RowInvalid:
    with pytest.raises(RowInvalid) as caught:
        read(choices, answer, **more)
    return caught.value


@pytest.mark.parametrize(
    ("names", "found", "base"),
    [
        (("prompt", "A", "B", "C", "D", "answer"), ("A", "B", "C", "D"), 0),
        (("question", "option1", "option2", "answer"), ("option1", "option2"), 1),
        (("opa", "opb", "opc", "opd", "cop"), ("opa", "opb", "opc", "opd"), 0),
        (("choice_1", "choice_0", "label"), ("choice_0", "choice_1"), 0),
        (("Option A", "Option B", "Option C"), ("Option A", "Option B", "Option C"), 0),
        (("context", "answerA", "answerB", "answerC"), ("answerA", "answerB", "answerC"), 0),
        (("ending0", "ending1", "ending2", "ending3"), ("ending0", "ending1", "ending2", "ending3"), 0),
        (("sol1", "sol2"), ("sol1", "sol2"), 1),
        (("a", "b", "c", "q"), ("a", "b", "c"), 0),
        (("A", "B", "D"), ("A", "B", "", "D"), 0),
        (tuple(f"option{n}" for n in range(30)), tuple(f"option{n}" for n in range(26)), 0),
    ],
)
def test_a_column_for_each_option_is_recognised(names: tuple[str, ...], found: tuple[str, ...], base: int) -> None:
    columns = option_columns(names)
    assert columns is not None
    assert (columns.names, columns.base) == (found, base)


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("question", "answer"),
        ("q", "a"),
        ("a", "b"),
        ("A",),
        ("B", "C"),
        ("answer1", "answer2"),
        ("1", "2"),
        ("A", "Z"),
    ],
)
def test_other_columns_are_no_options(names: tuple[str, ...]) -> None:
    assert option_columns(names) is None


def test_options_missing_at_the_end_are_left_out_and_in_between_are_an_error() -> None:
    columns = option_columns(("A", "B", "C", "D"))
    assert columns is not None
    assert columns.values({"A": "x", "B": "y", "C": "", "D": None}) == ["x", "y"]
    gap = columns.values({"A": "x", "C": "z"})
    assert refused(gap, "A").field == "choices[1]"


@pytest.mark.parametrize(
    "choices",
    [
        {"A": "Oslo", "B": "Rome", "C": None},
        [{"key": "A", "value": "Oslo"}, {"key": "B", "value": "Rome"}],
        "{'label': array(['A', 'B'], dtype=object), 'text': array(['Oslo', 'Rome'], dtype=object)}",
        "['Oslo' 'Rome']",
        '["Oslo", "Rome"]',
    ],
)
@pytest.mark.parametrize("answer", ["B", "Rome"])
def test_options_are_read_in_every_form(choices: object, answer: str) -> None:
    assert right_text(choices, answer) == "Rome"


def test_bars_separate_options_in_csv_only() -> None:
    assert right_text("Oslo|Rome", "B", has_bars=True) == "Rome"
    assert refused("Oslo|Rome", "B").field == "choices"


@pytest.mark.parametrize(("answer", "base", "right"), [(0, 0, "x"), (1, 1, "x"), ("3", 1, "z"), (2, 0, "z")])
def test_a_number_counts_from_the_base(answer: object, base: int, right: str) -> None:
    found = read(["x", "y", "z"], answer, key_base=base)
    assert right_text(["x", "y", "z"], answer, key_base=base) == right
    assert found.key == NumberKey(int(str(answer)), 3)


@pytest.mark.parametrize(("answer", "base"), [(3, 0), ("3", 0), (0, 1), (4, 1), (-1, 0)])
def test_a_number_beyond_the_options_is_an_error_that_knows_it(answer: object, base: int) -> None:
    error = refused(["x", "y", "z"], answer, key_base=base)
    assert isinstance(error, KeyOutOfRange)
    assert error.reason == f"must be an index from {base} to {2 + base}"


def test_options_that_are_numbers_are_texts_and_a_key_with_two_meanings_is_refused() -> None:
    assert right_text([0, 4, 2, 6], 4) == "4"
    assert right_text([0, 4, 2, 6], 2) == "2"
    assert right_text([3, 1, 2, 0], 1) == "1"
    assert "give its letter" in refused([1, 2, 3, 4], 1).reason
    assert right_text([1, 2, 3, 4], "B") == "2"
    assert right_text(["0", "4", "2", "6"], 1) == "4"
    assert right_text([10, 20], 1) == "20"


def test_a_number_that_is_an_options_own_text_says_nothing_about_where_keys_begin() -> None:
    assert read(["0", "4", "2", "6"], "4").key is None
    assert read(["0", "4", "2", "6"], "1").key == NumberKey(1, 4)


@pytest.mark.parametrize("answer", ["(B)", "[B]", "B.", "b)", "B:", "1.0", 1.0])
def test_a_letter_in_brackets_and_a_whole_number_with_a_point_are_keys(answer: object) -> None:
    assert right_text(["Oslo", "Rome"], answer) == "Rome"


@pytest.mark.parametrize("answer", ["b", "(B)", "B.", "B"])
def test_a_labels_case_and_brackets_make_no_difference(answer: str) -> None:
    assert right_text({"A": "Oslo", "B": "Rome"}, answer) == "Rome"
    assert refused({"A": "x", "a": "y", "c": "z"}, "(A)").field == "answer"
    assert right_text({"1": "x", "2": "y"}, 2.0) == "y"


@pytest.mark.parametrize("answer", ["01", "1.5", 1.5, "-1", "+1", "AB", "(C)", "1000", "B. Rome"])
def test_what_is_no_key_is_refused_with_what_to_give(answer: object) -> None:
    assert "give an option's letter, its index, or its exact text" in refused(["Oslo", "Rome"], answer).reason


def test_a_point_makes_a_number_that_is_also_a_text_doubtful() -> None:
    assert "more than one option" in refused(["0.5", "1.0", "2.0"], 2.0, key_base=1).reason
    assert right_text(["0.5", "1.0", "2.0"], "1.0") == "1.0"


def test_a_truth_value_names_an_option_by_its_text() -> None:
    assert right_text(["True", "False"], False) == "False"
    assert right_text(["true", "false"], True) == "true"
    assert refused(["yes", "no"], True).field == "answer"
