"""The rehearsal set is the questions that the model knows best."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.knowledge import KnowledgeState
from craft.core.rehearsal import RehearsalSelection, default_rehearsal_count, rehearsal_questions
from craft.core.strategies import Shortage
from craft.errors import RequestInvalid, TooFewKnown

STATES = {
    "never": KnowledgeState(0.0, 1.0),
    "fair": KnowledgeState(0.8, 0.8),
    "best": KnowledgeState(1.0, 1.0),
    "good": KnowledgeState(1.0, 0.95),
    "blurred": KnowledgeState(1.0, 0.3),
}


def test_highest_correctness_then_certainty() -> None:
    assert rehearsal_questions(STATES, count=1) == RehearsalSelection(("best",), 0.99, (0.99,))
    assert rehearsal_questions(STATES, count=2) == RehearsalSelection(("best", "good"), 0.9, (0.99, 0.9))
    assert rehearsal_questions(STATES, count=2, threshold=0.3) == RehearsalSelection(("best", "good"), 0.3, (0.3,))


def test_shrink_goes_down_every_step_and_then_takes_what_there_is() -> None:
    found = rehearsal_questions(STATES, count=4)
    assert found == RehearsalSelection(("best", "good", "fair"), 0.5, (0.99, 0.9, 0.75, 0.5))


def test_fill_goes_on_to_every_question_with_a_right_answer() -> None:
    found = rehearsal_questions(STATES, count=5, shortage=Shortage.FILL)
    assert found.ids == ("best", "good", "blurred", "fair")
    assert found.tried == (0.99, 0.9, 0.75, 0.5, 0.0)


def test_error_relaxes_nothing() -> None:
    assert rehearsal_questions(STATES, count=1, shortage=Shortage.ERROR).ids == ("best",)
    with pytest.raises(TooFewKnown):
        rehearsal_questions(STATES, count=2, shortage=Shortage.ERROR)


@pytest.mark.parametrize("shortage", list(Shortage))
def test_a_model_that_knows_nothing_cannot_rehearse(shortage: Shortage) -> None:
    with pytest.raises(TooFewKnown) as caught:
        rehearsal_questions({"never": KnowledgeState(0.0, 1.0)}, count=1, shortage=shortage)
    assert "temperature" in (caught.value.hint or "")


def test_no_question_is_no_rehearsal() -> None:
    with pytest.raises(RequestInvalid):
        rehearsal_questions(STATES, count=0)


@pytest.mark.parametrize(("questions", "count"), [(0, 1), (5, 1), (101, 11), (500, 50), (20_000, 1000)])
def test_the_default_count_is_a_tenth_up_to_1000(questions: int, count: int) -> None:
    assert default_rehearsal_count(questions) == count


@given(st.integers(1, 30), st.integers(1, 30), st.randoms())
def test_ties_do_not_depend_on_the_order_of_rows(size: int, count: int, order: random.Random) -> None:
    names = [f"id{number}" for number in range(size)]
    state = KnowledgeState(1.0, 1.0)
    first = rehearsal_questions(dict.fromkeys(names, state), count=count)
    again = rehearsal_questions(dict.fromkeys(order.sample(names, size), state), count=count)
    assert first == again
