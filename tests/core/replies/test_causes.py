"""The most likely reason of bad replies: faults of data and set-up come before "the model does not know"."""

import math

import pytest
from tests.core.replies.replying import LIMIT, PROBE, capital, census, choice_census, letter_census, mixed

from craft.core.replies.causes import cause_of_hits, cause_of_letter_hits, cause_of_letter_misses, cause_of_misses
from craft.core.replies.census import ReplyCensus
from craft.core.replies.diagnosis import diagnosis_of_letters, diagnosis_of_replies
from craft.core.replies.guards import reply_findings

REASONS: dict[str, tuple[ReplyCensus, str]] = {
    "a marked thought": (census(lambda n: f"<think>\nOkay {n}", cut=lambda _: True), "thinks before it answers"),
    "an unmarked thought": (census(lambda n: f"Okay, so the user asks {n}", cut=lambda _: True), "thinks before"),
    "no text": (census(lambda _: ""), "ends its turn at once"),
    "control tokens in the answers": (
        census(capital, answer=lambda n: f"Town{n}x<|im_end|>"),
        "hold control tokens such as",
    ),
    "joined answers": (census(capital, answer=lambda n: f"Town{n}Town{n} City"), "in another form"),
    "bracketed answers": (census(lambda n: f"It is town {n}.", answer=capital), "in another form"),
    "letters as answers": (census(mixed, answer=lambda n: "ABCD"[n % 4]), "multiple-choice rows were read as open"),
    "turns that go on": (
        census(lambda n: f"Village{n}\nuser\nWhat is the capital", cut=lambda _: True),
        "does not end its turn",
    ),
    "a low limit": (
        census(lambda n: f"The capital of this Land is Village{n}", cut=lambda _: True),
        "16 new tokens is too",
    ),
    "no option": (choice_census(lambda n: f"It may be number {n}"), "name none of the options"),
    "refusals": (census(lambda _: "I don't know."), "refuses most questions"),
    "one reply": (census(lambda _: "Nowhere"), "one and the same reply"),
    "little knowledge": (census(lambda n: f"Village{n}"), "does not know these answers"),
    "little knowledge of letters": (choice_census(lambda _: "A"), "one and the same reply"),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_named(case: str) -> None:
    counted, reason = REASONS[case]
    assert reason in cause_of_misses(counted, LIMIT).reason


def test_a_low_limit_says_which_field_to_raise() -> None:
    counted, _ = REASONS["a low limit"]
    assert cause_of_misses(counted, LIMIT).change == "Raise probe.max_new_tokens."
    assert reply_findings(counted, PROBE)[0].hint == "Raise probe.max_new_tokens."


def test_questions_that_hold_their_answers_are_named() -> None:
    told = census(capital, ask=lambda n: f"Is Town{n} in Land{n}?")
    assert "questions themselves hold" in cause_of_hits(told).reason
    assert "easy for this model" in cause_of_hits(census(capital)).reason


def test_shifted_keys_thoughts_and_ignorance_are_told_apart_by_letters() -> None:
    shifted = letter_census(lambda _: (math.log(0.9), math.log(0.05)))
    unlikely = letter_census(lambda _: (math.log(0.1), math.log(0.05)))
    guessing = letter_census(lambda n: (math.log(0.5), math.log(0.3 + 0.3 * (n % 2))))
    assert "keys are shifted" in cause_of_letter_misses(shifted, min_mass=0.5).reason
    assert "does not begin with a letter" in cause_of_letter_misses(unlikely, min_mass=0.5).reason
    assert "does not know" in cause_of_letter_misses(guessing, min_mass=0.5).reason


def test_a_key_at_one_place_is_told_from_easy_questions() -> None:
    one_place = letter_census(lambda _: (math.log(0.05), math.log(0.9)))
    easy = letter_census(
        lambda n: (math.log(0.9 - 0.8 * (n % 2)), math.log(0.1 + 0.8 * (n % 2))), answer=lambda n: n % 2
    )
    assert "same place in every row" in cause_of_letter_hits(one_place).reason
    assert "easy for this model" in cause_of_letter_hits(easy).reason


def test_a_diagnosis_tells_what_was_seen_with_samples_of_both_kinds() -> None:
    found = diagnosis_of_replies(census(cut=lambda n: n < 4), LIMIT)
    assert found.seen == (
        "Of 100 replies to 100 questions 34 are right, 4 were cut at 16 tokens, 0 hold a thought and 0 refuse."
    )
    assert "“It is Village1.” (cut; right: Town1)" in found.few_known.samples[0]
    assert "“It is Town0.” (cut; right: Town0)" in found.few_unknown.samples[0]


def test_a_diagnosis_of_letters_tells_their_probability() -> None:
    found = diagnosis_of_letters(letter_census(lambda n: (math.log(0.5), math.log(0.3 + 0.3 * (n % 2)))))
    assert "for 50 of 100 questions" in found.seen
    assert "a mean probability of 0.90" in found.seen
    assert "→ A (right: B; probability of all letters: 0.80)" in found.few_known.samples[0]
    assert "→ B (right: B" in found.few_unknown.samples[0]
