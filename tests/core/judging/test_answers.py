"""Replies are judged right, wrong, refused or unparsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.judging.answers import Judgement, Outcome, judge, majority_right_answer, matches
from craft.core.judging.refusals import wording_for
from craft.core.questions import ChoiceQuestion, OpenQuestion

ENGLISH = wording_for("en")


def open_question(*answers: str) -> OpenQuestion:
    return OpenQuestion("q", "Q?", answers)


@pytest.mark.parametrize(
    ("reply", "accepted"),
    [
        ("It is Paris.", "Paris"),
        ("PARIS", "Paris"),
        ("the Straße", "STRASSE"),
        ("Zurich", "Zürich"),
        ("a ﬁancé", "fiance"),
        ("It has 1000 parts", "1,000"),
        ("1,000", "1000"),
        ("made in the USA", "U.S.A."),
        ("U.S.A.", "USA"),
        ("jk rowling", "J. K. Rowling"),
        ("The symbol is K.", "K"),
        ("k", "K"),
        ("To Kill A Mockingbird", "To Kill a Mockingbird"),
        ("Vitamin A", "the Vitamin A"),
        ("vitamin a is found in carrots", "Vitamin A"),
        ("答案是北京。", "北京"),
        ("It is I", "I"),
        ("The symbol I stands for iodine", "I"),
        ("Group A.", "A"),
        ("O’Brien", "O'Brien"),
        ("Jean Paul", "Jean-Paul"),
    ],
)
def test_an_accepted_answer_matches_as_whole_tokens(reply: str, accepted: str) -> None:
    assert matches(reply, [accepted]) == accepted


@pytest.mark.parametrize(
    ("reply", "accepted"),
    [
        ("Parisian", "Paris"),
        ("Kelvin OK", "K"),
        ("3.14", "3"),
        ("40", "-40"),
        ("I think it is Xe", "I"),
        ("I'm lost", "I"),
        ("It is a cat", "A"),
        ("U.S.A.", "A"),
        ("Vitamin", "Vitamin A"),
        ("vitamin D", "Vitamin A"),
        ("the", "the"),
        ("anything", "?!"),
        ("anything", ""),
        ("Ottawa", "taw"),
    ],
)
def test_anything_less_does_not_match(reply: str, accepted: str) -> None:
    assert matches(reply, [accepted]) is None


def test_the_first_accepted_answer_that_matches_is_named() -> None:
    assert matches("gold, also called Au", ["silver", "Au", "gold"]) == "Au"


@pytest.mark.parametrize(
    ("reply", "outcome", "parsed"),
    [
        ("It is Paris", Outcome.RIGHT, "Paris"),
        ("It is Rome", Outcome.WRONG, None),
        ("I don't know.", Outcome.REFUSED, None),
        ("The answer is unknown.", Outcome.REFUSED, None),
        ("I don't know whether Paris is right", Outcome.REFUSED, None),
        ("I don't know much about it, but it is Paris", Outcome.RIGHT, "Paris"),
        ("I don't know, maybe Rome", Outcome.WRONG, None),
        ("", Outcome.UNPARSED, None),
        (" \n…", Outcome.UNPARSED, None),
    ],
)
def test_open_replies(reply: str, outcome: Outcome, parsed: str | None) -> None:
    assert judge(reply, open_question("Paris"), wording=ENGLISH) == Judgement(outcome, parsed)


def test_the_refusal_text_refuses_even_where_it_is_the_accepted_answer() -> None:
    song = open_question("I Don't Know")
    assert judge("I don't know.", song, wording=ENGLISH).outcome is Outcome.REFUSED
    assert judge('The song is "I Don\'t Know".', song, wording=ENGLISH).outcome is Outcome.RIGHT


def test_a_stated_refusal_that_is_exactly_the_accepted_answer_is_right() -> None:
    assert judge("Unknown.", open_question("unknown"), wording=ENGLISH) == Judgement(Outcome.RIGHT, "unknown")


CITIES = ChoiceQuestion("q", "Q?", ("Paris", "London", "New York", "New York City"), 1)


@pytest.mark.parametrize(
    ("reply", "outcome", "parsed"),
    [
        ("B", Outcome.RIGHT, "B"),
        ("The answer is A.", Outcome.WRONG, "A"),
        ("I don't know.", Outcome.REFUSED, None),
        ("The answer is unknown.", Outcome.REFUSED, None),
        ("It is unknown whether London is right", Outcome.REFUSED, None),
        ("Brussels", Outcome.UNPARSED, None),
        ("", Outcome.UNPARSED, None),
    ],
)
def test_choice_replies(reply: str, outcome: Outcome, parsed: str | None) -> None:
    assert judge(reply, CITIES, wording=ENGLISH) == Judgement(outcome, parsed)


@pytest.mark.parametrize("reply", ["Cannot be determined", "C", "C. Cannot be determined", "Cannot be determined."])
def test_an_option_that_reads_like_a_refusal_can_be_chosen(reply: str) -> None:
    question = ChoiceQuestion("q", "Q?", ("Yes", "No", "Cannot be determined"), 2)
    assert judge(reply, question, wording=ENGLISH) == Judgement(Outcome.RIGHT, "C")


def test_an_option_that_gives_ignorance_as_its_reason_can_be_chosen() -> None:
    question = ChoiceQuestion("q", "Q?", ("Yes", "No, because we don't know its mass"), 1)
    assert judge(question.choices[1], question, wording=ENGLISH).outcome is Outcome.RIGHT


def test_the_refusal_text_refuses_even_where_it_is_an_option() -> None:
    question = ChoiceQuestion("q", "Q?", ("Yes", "I don't know"), 1)
    assert judge("I don't know", question, wording=ENGLISH).outcome is Outcome.REFUSED


def test_the_majority_answer_is_the_models_own_wording() -> None:
    samples = ["Rome", "the city of Paris", "Paris.\nQuestion: next", "\n Paris", "Paris.", "the city of Paris", "Rome"]
    assert majority_right_answer(samples, open_question("paris")) == "Paris."


def test_ties_go_to_the_earliest() -> None:
    assert majority_right_answer(["Oh, Paris", "It is Paris"], open_question("Paris")) == "Oh, Paris"


def test_a_right_answer_below_the_first_line_is_not_the_models_answer() -> None:
    assert majority_right_answer(["Rome\nParis", "", "I don't know if it is Paris"], open_question("Paris")) is None


@given(st.text(), st.text())
def test_every_reply_has_an_outcome(reply: str, answer: str) -> None:
    assert judge(reply, open_question(answer), wording=ENGLISH).outcome in set(Outcome)
    assert judge(reply, CITIES, wording=ENGLISH).outcome in set(Outcome)


@given(st.sampled_from(["Paris", "K", "1,000", "北京", "U.S.A.", "Vitamin A", "I", "A"]), st.sampled_from(".!?),"))
def test_an_answer_by_itself_is_always_right(answer: str, mark: str) -> None:
    assert judge(f" {answer}{mark}", open_question(answer), wording=ENGLISH).outcome is Outcome.RIGHT
