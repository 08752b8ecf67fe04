"""Knowledge states, worked by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from craft.core.flow import KnowledgeFlow, flows
from craft.core.judging.refusals import wording_for
from craft.core.knowledge import (
    KnowledgeState,
    certainty_of,
    choice_state,
    correctness_of,
    open_state,
)
from craft.core.questions import OpenQuestion
from craft.errors import MissingStates, RequestInvalid

ENGLISH = wording_for("en")
CAPITAL = OpenQuestion("q", "Q?", ("Paris",))


def test_correctness_is_the_share_of_right_samples() -> None:
    samples = ["Paris", "It is Paris", "Rome", "I don't know if it is Paris"]
    assert correctness_of(samples, CAPITAL, wording=ENGLISH) == 0.5


def test_no_sample_is_no_state() -> None:
    with pytest.raises(RequestInvalid):
        correctness_of([], CAPITAL, wording=ENGLISH)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [1, 0], [1, 0]], 1.0),
        ([[1, 0], [5, 0]], 1.0),
        ([[1, 0], [0, 1]], 0.0),
        ([[1, 0], [-1, 0]], 0.0),  # clipped from -1
        ([[1, 0], [1, 0], [0, 1]], 1 / 3),
        ([[1, 0], [1, math.sqrt(3)]], 0.5),
        ([[0, 0], [0, 0]], 0.0),
        ([[1, 0], [1, 0], [0, 0]], 1 / 3),  # a zero row agrees with none
        ([[1e-300, 0], [1e300, 0]], 1.0),
        ([[3, 4]], 1.0),
    ],
)
def test_certainty_is_the_mean_pairwise_cosine(rows: list[list[float]], expected: float) -> None:
    assert certainty_of(np.array(rows, dtype=np.float64)) == pytest.approx(expected, abs=1e-12)


FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 5)), elements=FINITE))
def test_certainty_equals_the_pairs_one_by_one(rows: NDArray[np.float64]) -> None:
    def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / lengths) if lengths > 1e-200 else 0.0

    kept = rows[(np.linalg.norm(rows, axis=1) > 1e-100) | (np.abs(rows).max(axis=1) == 0)]
    if len(kept) > 1:
        mean = np.mean([cosine(a, b) for a, b in combinations(kept, 2)])
        assert certainty_of(kept) == pytest.approx(min(1, max(0, float(mean))), abs=1e-9)
        assert certainty_of(kept[::-1]) == pytest.approx(certainty_of(kept), abs=1e-12)


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.array([[math.nan]]), np.array([[math.inf]]), np.zeros(3)])
def test_what_is_no_table_of_numbers_has_no_certainty(rows: NDArray[np.float64]) -> None:
    with pytest.raises(RequestInvalid):
        certainty_of(rows)


def test_an_open_state_joins_both() -> None:
    state = open_state(["Paris", "Rome"], np.eye(2, dtype=np.float32), CAPITAL, wording=ENGLISH)
    assert state == KnowledgeState(correctness=0.5, certainty=0.0)
    with pytest.raises(RequestInvalid):
        open_state(["Paris"], np.eye(2), CAPITAL, wording=ENGLISH)


def test_a_certain_letter() -> None:
    found = choice_state([0.0, -math.inf, -math.inf], 0)
    assert found.state == KnowledgeState(1.0, 1.0)
    assert found.letter_mass == 1.0
    assert choice_state([0.0, -math.inf], 1).state == KnowledgeState(0.0, 1.0)


def test_a_half_certain_letter() -> None:
    # p = (1/2, 1/2, 0, 0): H = ln 2, ln K = ln 4, so sigma = 1 - 1/2.
    found = choice_state([math.log(0.1), math.log(0.1), -math.inf, -math.inf], 1)
    assert found.state == pytest.approx((0.5, 0.5))
    assert found.letter_mass == pytest.approx(0.2)


def test_no_mass_on_any_letter_is_no_knowledge() -> None:
    found = choice_state([-math.inf] * 4, 2)
    assert found == ((0.25, 0.0), 0.0, (0.25,) * 4)


def test_very_small_probabilities_keep_their_ratio() -> None:
    found = choice_state([-2000.0, -2000.0 + math.log(3)], 1)
    assert found.state.correctness == pytest.approx(0.75)
    assert found.letter_mass == 0.0


@given(st.lists(st.floats(-50, -1.1 * math.log(26)), min_size=2, max_size=26), st.data())
def test_letters_are_shares_of_one(logprobs: list[float], data: st.DataObject) -> None:
    answer = data.draw(st.integers(0, len(logprobs) - 1))
    found = choice_state(logprobs, answer)
    assert sum(found.probabilities) == pytest.approx(1)
    assert found.probabilities[answer] == found.state.correctness
    assert 0 <= found.state.certainty <= 1
    assert 0 < found.letter_mass <= 1


@given(st.floats(-40, -1.0), st.floats(0.01, 0.9))
def test_more_on_the_right_letter_is_more_correct(logprob: float, more: float) -> None:
    others = [-3.0, -4.0]
    assert choice_state([logprob + more, *others], 0).state.correctness > (
        choice_state([logprob, *others], 0).state.correctness
    )


@pytest.mark.parametrize(
    ("logprobs", "answer"),
    [
        ([], 0),
        ([0.0], 0),
        ([-1.0, -1.0], 2),
        ([-1.0, -1.0], -1),
        ([math.nan, 0.0], 0),
        ([3.0, 1.0], 0),
        ([0.0, 0.0], 0),
    ],
)
def test_what_is_no_log_probability_is_refused(logprobs: list[float], answer: int) -> None:
    with pytest.raises(RequestInvalid):
        choice_state(logprobs, answer)


def test_flow_is_after_minus_before_joined_on_the_id() -> None:
    before = {"a": KnowledgeState(0.25, 0.5), "b": KnowledgeState(1.0, 1.0)}
    after = {"b": KnowledgeState(0.5, 1.0), "a": KnowledgeState(0.75, 0.25)}
    assert flows(before, after) == {"a": KnowledgeFlow(0.5, -0.25), "b": KnowledgeFlow(-0.5, 0.0)}
    assert list(flows(before, after)) == ["a", "b"]


def test_a_missing_id_is_an_error() -> None:
    state = KnowledgeState(0.0, 0.0)
    with pytest.raises(MissingStates) as caught:
        flows({"a": state, "b": state}, {"b": state, "c": state})
    assert "a, c" in (caught.value.hint or "")
