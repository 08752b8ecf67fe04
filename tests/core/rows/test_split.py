"""Tests of the split: what asks the same is on one side, and nothing but what is asked decides the side."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.questions import ChoiceQuestion, OpenQuestion
from craft.core.rows.split import first_examined_shot, question_identity, split
from craft.errors import RequestInvalid


def questions(count: int) -> list[OpenQuestion]:
    return [OpenQuestion(f"id{number}", f"Question {number}?", ("x",)) for number in range(count)]


@given(st.integers(0, 200), st.floats(0, 0.99), st.integers(0, 10), st.randoms())
def test_a_split_is_a_partition_that_ignores_the_order(
    count: int, fraction: float, seed: int, order: random.Random
) -> None:
    rows = questions(count)
    parts = split(rows, held_out_fraction=fraction, seed=seed)
    assert sorted(parts.train + parts.held_out, key=lambda each: int(each.id[2:])) == rows
    shuffled = order.sample(rows, count)
    assert set(split(shuffled, held_out_fraction=fraction, seed=seed).held_out) == set(parts.held_out)


def test_a_split_keeps_its_size_and_the_order_of_the_file_and_depends_on_the_seed() -> None:
    rows = questions(4000)
    parts = split(rows, held_out_fraction=0.25, seed=1)
    assert 900 < len(parts.held_out) < 1100
    assert list(parts.held_out) == [row for row in rows if row in set(parts.held_out)]
    assert split(rows, held_out_fraction=0.25, seed=2).held_out != parts.held_out


def test_rows_added_later_move_no_question() -> None:
    before, after = (split(questions(count), held_out_fraction=0.5, seed=3) for count in (50, 100))
    assert set(before.held_out) <= set(after.held_out)
    assert set(before.train) <= set(after.train)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, math.nan])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(RequestInvalid):
        split(questions(1), held_out_fraction=fraction, seed=0)


def spelled(count: int) -> list[OpenQuestion]:
    """Each question three times: under other ids, and in another spelling."""
    forms = ("What is the capital of Land {}?", " what is capital  of land {}", "WHAT IS THE CAPITAL OF LÄND {} ?!")
    return [OpenQuestion(f"id{n}.{at}", form.format(n), ("x",)) for n in range(count) for at, form in enumerate(forms)]


@pytest.mark.parametrize("seed", range(5))
def test_the_same_question_under_other_ids_is_on_one_side(seed: int) -> None:
    rows = spelled(200)
    parts = split(rows, held_out_fraction=0.4, seed=seed)
    sides = [{row.id.partition(".")[0] for row in part} for part in (parts.train, parts.held_out)]
    assert not sides[0] & sides[1]
    assert len(parts.train) + len(parts.held_out) == len(rows)
    assert 0.3 < len(parts.held_out) / len(rows) < 0.5
    assert parts.kept_together == tuple(range(1, 601))


def test_another_id_changes_no_side() -> None:
    parts = split(questions(100), held_out_fraction=0.5, seed=1)
    renamed = [OpenQuestion(f"other{n}", row.question, row.answers) for n, row in enumerate(questions(100))]
    again = split(renamed, held_out_fraction=0.5, seed=1)
    assert [row.question for row in again.held_out] == [row.question for row in parts.held_out]
    assert parts.kept_together == ()


def test_what_an_evaluation_set_asks_does_not_train() -> None:
    rows = questions(60)
    before = split(rows, held_out_fraction=0.5, seed=2)
    asked = [question_identity(OpenQuestion("e", row.question.upper(), ("y",))) for row in rows[:20]]
    parts = split(rows, held_out_fraction=0.5, seed=2, evaluated=set(asked))
    assert parts.held_out == before.held_out
    assert set(parts.train) == set(before.train) - set(rows[:20])
    assert [rows[place - 1] for place in parts.left_out] == [row for row in before.train if row in rows[:20]]


def choice(question: str, *options: str) -> ChoiceQuestion:
    return ChoiceQuestion(f"{question} {options}", question, options, 0)


def test_options_in_another_order_ask_the_same_and_other_options_do_not() -> None:
    first = choice("Which is true?", "Ice is cold.", "Fire is wet.")
    assert question_identity(first) == question_identity(choice("which is true", "fire is wet", "Ice is cold!"))
    assert question_identity(first) != question_identity(choice("Which is true?", "Ice is cold.", "Snow is hot."))
    assert question_identity(choice("?", "+", "-")) != question_identity(choice("?", "+", "*"))


def test_a_shot_in_another_spelling_is_examined() -> None:
    shot, other = OpenQuestion("s", "what is the Capital, of land 3", ("x",)), OpenQuestion("o", "Who?", ("x",))
    assert first_examined_shot([other, shot], spelled(9)) == shot
    assert first_examined_shot([other], spelled(9)) is None
