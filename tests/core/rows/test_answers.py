"""Answers are read alike from every form; what had to be decided is noted."""

import datetime
from decimal import Decimal
from typing import Any

import pytest

from craft.core.findings import FindingCode
from craft.core.questions import OpenQuestion, Task
from craft.core.rows.answers import RowNote
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import ReadRow, read_row


def read(**row: Any) -> ReadRow:
    has_bars = bool(row.pop("has_bars", False))
    return read_row({"question": "Q?", **row}, task=Task.OPEN_ENDED, has_bars=has_bars)


def answers(**row: Any) -> tuple[str, ...]:
    question = read(**row).question
    assert isinstance(question, OpenQuestion)
    return question.answers


def refused(**row: Any) -> RowInvalid:
    with pytest.raises(RowInvalid) as caught:
        read(**row)
    return caught.value


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (6, "6"),
        (6.0, "6.0"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        ("True", "true"),
        (Decimal("1.50"), "1.50"),
        (datetime.date(1998, 1, 31), "1998-01-31"),
        (datetime.datetime(1998, 1, 31), "1998-01-31"),  # noqa: DTZ001 - files have such times
        (datetime.datetime(1998, 1, 31, 12, 5), "1998-01-31 12:05:00"),  # noqa: DTZ001 - files have such times
        (datetime.time(12, 5), "12:05:00"),
    ],
)
def test_numbers_truth_values_and_dates_are_taken_as_text_with_a_note(given: object, taken: str) -> None:
    assert answers(answer=given) == answers(answers=[given]) == answers(answers=given) == (taken,)
    assert read(answer=given).notes == (RowNote(FindingCode.VALUES_AS_TEXT, "answer", taken),)


@pytest.mark.parametrize("text", ["None", "NA", "null", "nan", "007", "1e5", "TRUE", "3.10", "1998"])
def test_a_text_that_looks_like_a_value_stays_as_it_is(text: str) -> None:
    assert (answers(answer=text), read(answer=text).notes) == ((text,), ())


def test_a_number_as_category_or_id_is_noted_but_not_a_whole_id() -> None:
    notes = read(answer="x", category=3, id=1.5).notes
    assert [(note.code, note.field) for note in notes] == [
        (FindingCode.VALUES_AS_TEXT, "category"),
        (FindingCode.VALUES_AS_TEXT, "id"),
    ]
    assert read(answer="x", id=7).notes == ()
    assert read(answer="x", id=True).notes != ()


@pytest.mark.parametrize("field", ["answer", "answers"])
@pytest.mark.parametrize(
    "value",
    [
        ["a", "b"],
        "['a', 'b']",
        "['a' 'b']",
        '["a", "b"]',
        {"value": "a", "aliases": ["a", "b"]},
        "{'value': 'a', 'aliases': ['b']}",
        {"text": ["a", "b"], "answer_start": [1, 2]},
        "{'text': array(['a', 'b'], dtype=object), 'answer_start': array([1, 2])}",
    ],
)
def test_a_list_or_an_object_of_answers_is_read_in_every_form(field: str, value: object) -> None:
    assert answers(**{field: value}) == ("a", "b")


def test_an_object_of_one_answer_is_that_answer() -> None:
    assert answers(answer={"text": "a"}) == answers(answer={"value": "a", "aliases": None}) == ("a",)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"name": "a"}, "is an object; map the member"),
        ({"text": [], "answer_start": []}, "is an empty list"),
        ("['a', 'b'", 'write a list as ["a", "b"]'),
        ("[a, b]", '["[a, b]"]'),
        ("['a' 'b', 'c']", "cannot be read as one"),
        ([["a"]], "must be text, not list"),
        (b"a", "must be text, not bytes"),
        ("\u200b", "is empty"),
    ],
)
def test_what_is_no_answer_is_refused_with_what_to_do(value: object, reason: str) -> None:
    assert reason in refused(answers=value).reason


def test_a_list_of_numbers_as_text_is_a_list_and_noted_and_quoting_makes_it_a_text() -> None:
    found = read(answers="[0, 1]")
    assert isinstance(found.question, OpenQuestion)
    assert found.question.answers == ("0", "1")
    assert FindingCode.NUMBER_LISTS in {note.code for note in found.notes}
    assert FindingCode.NUMBER_LISTS not in {note.code for note in read(answers="[1998]").notes}
    assert answers(answers='["[0, 1]"]') == answers(answers=["[0, 1]"]) == ("[0, 1]",)
    assert answers(answers="[0, 1)") == ("[0, 1)",)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("a|b", ("a", "b")),
        ("a | b", ("a", "b")),
        ("P(A|B)", ("P(A|B)",)),
        ("{x | x > 0}", ("{x | x > 0}",)),
        ("$|x|$", ("$|x|$",)),
        ("`a|b`", ("`a|b`",)),
        ("P(A)|P(B)", ("P(A)", "P(B)")),
        ('["a|b"]', ("a|b",)),
    ],
)
def test_bars_separate_answers_in_csv_unless_they_stand_in_brackets(cell: str, found: tuple[str, ...]) -> None:
    assert answers(answers=cell, has_bars=True) == found
    split = len(found) > 1
    codes = [note.code for note in read(answers=cell, has_bars=True).notes]
    assert codes == ([FindingCode.BARS_SPLIT] if split else [])


def test_bars_are_text_in_other_formats_and_in_answer() -> None:
    assert answers(answers="a|b") == answers(answer="a|b", has_bars=True) == ("a|b",)


@pytest.mark.parametrize("cell", ["|x|", "a||b", "a|"])
def test_nothing_between_bars_is_refused(cell: str) -> None:
    assert "between two bars" in refused(answers=cell, has_bars=True).reason


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("Pa\u200bris", "Paris"),
        ("\ufeffParis", "Paris"),
        ("Pa\u00adris", "Paris"),
        ("Par\u200dis", "Paris"),
        ("Paris\u200e", "Paris"),
    ],
)
def test_invisible_characters_are_left_out_of_answers_with_a_note(given: str, taken: str) -> None:
    found = read(answers=[given])
    assert isinstance(found.question, OpenQuestion)
    assert found.question.answers == (taken,)
    assert [note.code for note in found.notes] == [FindingCode.INVISIBLE_CHARACTERS]


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d🔬", "क्\u200dष"])
def test_joiners_stay_where_a_script_needs_them(text: str) -> None:
    assert answers(answer=f"x {text} y") == (f"x {text} y",)


def test_a_list_may_hold_objects_of_answers() -> None:
    given = [{"text": "a", "answer_start": 3}, {"value": "b", "aliases": ["c"]}, "d"]
    assert answers(answers=given) == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    "question", ["['Who?']", '["Who?", "Why?"]', "[{'role': 'user', 'content': 'Who?'}]", "{'q': 1}"]
)
def test_a_question_that_is_a_list_or_an_object_as_text_is_refused(question: str) -> None:
    with pytest.raises(RowInvalid, match="map the member that holds the question"):
        read(question=question, answer="x")


@pytest.mark.parametrize("question", ["[1, 2, 4, 8]", "['a', 'b'] is of which type?", "[a, b]", "b'x'", "['a"])
def test_other_questions_in_brackets_are_texts(question: str) -> None:
    assert read(question=question, answer="x").question.question == question


def test_options_that_are_numbers_as_text_are_not_noted() -> None:
    row = {"question": "q", "choices": "[10, 20]", "answer": "B"}
    assert read_row(row, task=Task.MULTIPLE_CHOICE).notes == ()
