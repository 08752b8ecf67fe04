"""A multiple-choice reply names one option, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.judging.letters import parse_letter
from craft.core.questions import ChoiceQuestion, letters

CITIES = ChoiceQuestion("q", "Q?", ("Paris", "London", "New York", "New York City"), 1)
NUMBERS = ChoiceQuestion("q", "Q?", ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("A", "A"),
        ("A.", "A"),
        ("(B)", "B"),
        ("[B]", "B"),
        ('"B"', "B"),
        ("**B**", "B"),
        ("`B`", "B"),
        ("$\\boxed{B}$", "B"),
        ("b", "B"),
        ("b)", "B"),
        ("a. Paris", "A"),
        ("Ｂ", "B"),
        ("（Ｃ）", "C"),
        ("B) Paris", "B"),
        ("B: London", "B"),
        ("B.London", "B"),
        ("B - London", "B"),
        ("B London", "B"),
        ("B\n\nbecause", "B"),
        ("B is correct", "B"),
        ("B because", "B"),
        ("B, because it is big", "B"),
        ("Answer: C", "C"),
        ("Answer: B\nQuestion: next", "B"),
        ("The answer is D.", "D"),
        ("The answer is: **C**.", "C"),
        ("The answer is B. London", "B"),
        ("The answer is B, London", "B"),
        ("the answer is a", "A"),
        ("The correct answer is (C) New York", "C"),
        ("The best answer is: B", "B"),
        ("Option B", "B"),
        ("option (b)", "B"),
        ("I choose B", "B"),
        ("C. New York\n\nExplanation: A is wrong", "C"),
        ("选B", "B"),
        ("答案：B。", "B"),
        ("答案是C", "C"),
        ("B，因为", "B"),
        ("B是对的", "B"),
        ("New York", "C"),
        ("new york city", "D"),
        ("I say New York City!", "D"),
        ("It is London", "B"),
        ("E. London", "B"),
    ],
)
def test_named(reply: str, letter: str) -> None:
    assert parse_letter(reply, CITIES) == letter


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "...",
        "As an AI language model",
        "A.I. is great",
        "A dog",
        "A lot of people",
        "A-level",
        "a dog",
        "A B",
        "A or B",
        "A, B",
        "A and B",
        "A/B",
        "A, B, C, or D",
        "The answer is A or B",
        "The answer is a dog",
        "The answer is not A",
        "The answer is A. The answer is B.",
        "A. Paris B. London C. New York",
        "A. Paris\nB. London",
        "E",
        "E.",
        "The answer is E.",
        "Paris or London",
        "New York, not New York City",
        "A Dublin",
    ],
)
def test_not_named(reply: str) -> None:
    assert parse_letter(reply, CITIES) is None


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("I", "I"),
        ("I.", "I"),
        ("i", "I"),
        ("I) nine", "I"),
        ("I is right", "I"),
        ("The answer is I", "I"),
        ("nine", "I"),
        ("J", "J"),
        ("I think it is two", "B"),
        ("The answer is I think two", "B"),
        ("I think...", None),
        ("I, as a person", None),
        ("I – well", None),
        ("I and you", None),
    ],
)
def test_the_letter_i_is_distinguished_from_the_pronoun(reply: str, letter: str | None) -> None:
    assert parse_letter(reply, NUMBERS) == letter


def test_an_option_that_starts_with_a_letter_is_read_by_its_text() -> None:
    keys = ChoiceQuestion("q", "Q?", ("G minor", "C major", "A dog"), 1)
    assert parse_letter("C major", keys) == "B"
    assert parse_letter("A dog", keys) == "C"


def test_options_that_are_letters_go_by_the_letter_they_are_offered_under() -> None:
    blood = ChoiceQuestion("q", "Q?", ("O", "A", "B", "AB"), 0)
    assert parse_letter("A", blood) == "A"
    assert parse_letter("AB", blood) == "D"


def test_options_that_read_alike_cannot_be_named_by_text() -> None:
    twins = ChoiceQuestion("q", "Q?", ("Rome", "Rome", "?!"), 0)
    assert parse_letter("Rome", twins) is None
    assert parse_letter("It is Rome", twins) is None
    assert parse_letter("?", twins) is None
    assert parse_letter("?!", twins) == "C"
    assert parse_letter("B", twins) == "B"


@pytest.mark.parametrize(
    ("choices", "reply", "letter"),
    [
        (("R", "rr", "Rr", "RR"), "rr", "B"),
        (("2 - e^-2", "2 + e^-2"), "2 + e^-2", "B"),
        (("p+3", "3/p", "p-3"), " p-3. ", "C"),
        (("CO_2 rises", "O_2 rises"), "The answer is O_2 rises", "B"),
        (("-7", "7"), "7", "B"),
        (("–7", "7"), "It is –7", "A"),
        (("Error", "abc", "cba", "c"), "c", "D"),
        (("Error", "abc", "cba", "c"), "C", "C"),
        (("P(A)", "P(B, C) * P(A, C)"), "B. P(B, C) * P(A, C)", "B"),
        (("Bone", "Teeth", "Fur", "Both A and B."), "D. Both A and B.", "D"),
        (("Bone", "Teeth", "Fur", "Both A and B"), "The answer is D. Both A and B", "D"),
    ],
)
def test_options_that_differ_in_case_or_signs_only(choices: tuple[str, ...], reply: str, letter: str) -> None:
    assert parse_letter(reply, ChoiceQuestion("q", "Q?", choices, 0)) == letter


def test_text_inside_the_reply_counts_only_if_asked_for() -> None:
    assert parse_letter("It is London", CITIES, inside=False) is None


@given(
    st.integers(2, 26), st.data(), st.sampled_from(["{}", "({})", "{}.", "Answer: {}", "The answer is {}.", "**{}**"])
)
def test_every_offered_letter_can_be_named(count: int, data: st.DataObject, form: str) -> None:
    question = ChoiceQuestion("q", "Q?", tuple(f"word{number}x" for number in range(count)), 0)
    letter = data.draw(st.sampled_from(letters(26)))
    assert parse_letter(form.format(letter), question) == (letter if letter in question.letters else None)


@given(st.text())
def test_only_offered_letters_are_named(reply: str) -> None:
    assert parse_letter(reply, CITIES) in {None, "A", "B", "C", "D"}
