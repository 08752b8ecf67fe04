"""The twelve defects of the published code, as method.md lists them, each as a fact about this code.

Number 11, packed samples that attend to one another, is about training and is tested there.
"""

import math
import time

import numpy as np
import pytest

from craft.core.flow import KnowledgeFlow, flows
from craft.core.judging.answers import Outcome, judge, majority_right_answer, matches
from craft.core.judging.refusals import is_refusal, wording_for
from craft.core.knowledge import KnowledgeState, certainty_of, choice_state
from craft.core.questions import ChoiceQuestion, OpenQuestion, Task
from craft.core.rows.reader import question_from_row
from craft.core.rows.split import first_examined_shot, split
from craft.core.selection import QuestionFlow, select
from craft.core.strategies import SelectionRule, Strategy

ENGLISH = wording_for("en")


def test_1_rehearsed_states_are_joined_on_the_question_not_on_the_row() -> None:
    before = {f"q{n}": KnowledgeState(0.0, 0.0) for n in range(30)}
    after = {name: KnowledgeState(int(name[1:]) / 100, 0.0) for name in reversed(before)}
    assert flows(before, after) == {f"q{n}": KnowledgeFlow(n / 100, 0.0) for n in range(30)}


def test_2_letters_are_renormalised_all_at_once() -> None:
    found = choice_state([math.log(p) for p in (0.30, 0.02, 0.30, 0.02)], 0)
    assert found.probabilities == pytest.approx((0.469, 0.031, 0.469, 0.031), abs=0.0005)
    assert found.letter_mass == pytest.approx(0.64)


def test_3_a_model_that_puts_almost_no_mass_on_any_letter_is_not_certain() -> None:
    found = choice_state([math.log(1e-9)] * 4, 0)
    assert found.state.certainty == pytest.approx(0)
    assert found.letter_mass == pytest.approx(4e-9)


def test_4_the_rehearsal_target_is_the_models_own_right_answer() -> None:
    question = OpenQuestion("q", "Q?", ("Paris",))
    assert majority_right_answer(["The city of Paris", "Rome", "The city of Paris"], question) == "The city of Paris"


def test_5_states_keep_full_precision() -> None:
    close = certainty_of(np.array([[1.0, 0.0], [1.0, 1e-4]]))
    assert 0 < 1 - close < 1e-7
    nearly = [choice_state([math.log(0.5), math.log(0.5 - tiny)], 0).state.certainty for tiny in (1e-4, 2e-4)]
    assert nearly[0] < nearly[1] < 1e-6
    rows = [QuestionFlow(f"q{n}", KnowledgeState(1.0, 0.9 + n * 1e-9)) for n in range(9)]
    rule = SelectionRule(n_van=3, n_idk=0, seed=0)
    assert select(rows, strategy=Strategy.CRAFT_NO_FLOW, rule=rule).van == ("q8", "q7", "q6")


@pytest.mark.parametrize("strategy", list(Strategy))
def test_6_nothing_is_drawn_twice(strategy: Strategy) -> None:
    flat = KnowledgeFlow(0.0, 0.0)
    rows = [QuestionFlow(f"q{n}", KnowledgeState(n % 2, 0.5), flat) for n in range(100)]
    for seed in range(10):
        found = select(rows, strategy=strategy, rule=SelectionRule(n_van=40, n_idk=40, seed=seed))
        taken = [*found.van, *found.idk]
        assert len(set(taken)) == len(taken) == 80


@pytest.mark.parametrize("count", [3, 4, 5])
def test_7_options_named_by_numbers_and_other_counts_than_four_are_read(count: int) -> None:
    choices = [{"label": str(n), "text": f"thing {n}"} for n in range(1, count + 1)]
    question = question_from_row(
        {"question": "Q?", "choices": choices, "answer": str(count)}, task=Task.MULTIPLE_CHOICE
    )
    assert isinstance(question, ChoiceQuestion)
    assert question.answer_letter == "ABCDE"[count - 1]
    assert judge(question.answer_letter, question, wording=ENGLISH).outcome is Outcome.RIGHT
    assert len(choice_state([-2.0] * count, question.answer).probabilities) == count


def test_8_a_curly_quote_refuses_and_as_an_ai_is_not_a() -> None:
    question = ChoiceQuestion("q", "Q?", ("one", "two", "three", "four"), 0)
    assert is_refusal("I don’t know", ENGLISH)
    assert judge("As an AI language model, this is easy.", question, wording=ENGLISH).outcome is Outcome.UNPARSED


def test_9_a_one_letter_alias_matches_no_part_of_a_word() -> None:
    assert matches("Kelvin likes thick milk", ["K"]) is None
    assert matches("The symbol is K.", ["K"]) == "K"


def test_10_shots_never_come_from_the_evaluation_split() -> None:
    parts = split([OpenQuestion(f"q{n}", f"Question {n}?", ("x",)) for n in range(40)], held_out_fraction=0.5, seed=1)
    assert first_examined_shot(parts.train, parts.held_out) is None
    leak = OpenQuestion("mine", f"  {parts.held_out[3].question.upper()} ", ("y",))
    assert first_examined_shot([*parts.train, leak], parts.held_out) == leak


def test_12_selection_from_200_000_states_takes_under_two_seconds() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((200_000, 3)).round(1).tolist()
    rows = [
        QuestionFlow(f"q{n}", KnowledgeState(mu, sigma), KnowledgeFlow(change - 0.5, 0.0))
        for n, (mu, sigma, change) in enumerate(values)
    ]
    rule = SelectionRule(n_van=40_000, n_idk=10_000, seed=0)
    started = time.process_time()
    found = select(rows, strategy=Strategy.CRAFT, rule=rule)
    assert time.process_time() - started < 2
    assert len(found.van) == 40_000
