"""Excerpts of replies, and the recognition of thoughts."""

import pytest
from tests.core.replies.replying import choice

from craft.core.questions import OpenQuestion
from craft.core.replies.reply import FinishReason, finishes_or_stops, reply_excerpt, shortened
from craft.core.replies.thoughts import has_thought, is_thought_tag, open_thought, sounds_like_a_thought

THOUGHTS = [
    "<think>\nOkay, the user wants",
    "<think>Paris?</think> I don't know.",
    "Hm, France is in Europe.\n</think>\n\nParis",
    "<thinking>It may be Paris</thinking>Paris",
    "[THINK]Let me see[/THINK]Paris",
    "◁think▷Paris is big◁/think▷Paris",
    "<|channel|>analysis<|message|>The user asks",
    "analysisThe user asks for a capital.assistantfinalParis",
    "<reasoning>big town</reasoning>Paris",
    "<|begin_of_thought|>Okay<|end_of_thought|>Paris",
    " <seed:think>I must answer</seed:think>Paris",
]
ANSWERS = [
    "Paris",
    "<think>\n\n</think>\n\nParis",
    "<think></think>Paris",
    "I think it is Paris.",
    "The analysis of the text was written by Kant.",
    "Analysis of variance",
    "In HTML it is the <thead> tag.",
    "",
]


@pytest.mark.parametrize("reply", THOUGHTS)
def test_a_marked_thought_is_seen_finished_or_not(reply: str) -> None:
    assert has_thought(reply)


@pytest.mark.parametrize("reply", ANSWERS)
def test_an_answer_or_an_empty_thought_is_no_thought(reply: str) -> None:
    assert not has_thought(reply)


@pytest.mark.parametrize("reply", ["Okay, so the user", "Let me think about it", "Hmm, I should", "We need to recall"])
def test_an_unmarked_thought_sounds_like_one(reply: str) -> None:
    assert sounds_like_a_thought(reply)


def test_an_answer_does_not_sound_like_a_thought() -> None:
    assert not sounds_like_a_thought("Okapi live in Congo.")


def test_an_excerpt_is_one_short_line_without_control_characters() -> None:
    shown = shortened("a\nb\x1b[31m\u202e" + "x" * 200, 30)
    assert shown == "a\\nb\\x1b[31m\\u202exxxxxxxxxxx…"
    assert len(shown) == 30


def test_an_excerpt_has_question_reply_and_right_answer_in_120_characters() -> None:
    question = OpenQuestion("q", "What is " + "very " * 40 + "long?", ("An answer that is long as well",))
    shown = reply_excerpt(question, "<think>" + "y" * 400, cut=True)
    assert len(shown) <= 120
    assert "→ “<think>" in shown
    assert "(cut; right: An answer that…)" in shown


def test_an_excerpt_of_a_choice_has_the_right_letter() -> None:
    assert reply_excerpt(choice(1), "A") == "“Which is number 1?” → “A” (right: B)"


def test_replies_without_a_record_count_as_ended_by_the_model() -> None:
    assert finishes_or_stops(None, 2) == (FinishReason.STOP, FinishReason.STOP)
    assert finishes_or_stops([FinishReason.LENGTH], 1) == (FinishReason.LENGTH,)


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", None),
        ("<think>a</think><think>", "<think>"),
        ("<|assistant|>\n<|thinking|>", "<|thinking|>"),
        ("[/INST][THINK]", "[THINK]"),
        ("[/INST][THINK][/THINK]", None),
        ("<reasoning>\n", "<reasoning>"),
        ("◁think▷", "◁think▷"),
        ("<|START_THINKING|>", "<|START_THINKING|>"),
        ("<|START_THINKING|><|END_THINKING|>", None),
        ("<seed:think>", "<seed:think>"),
        ("<｜Assistant｜></think>", None),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis"),
        ("<|assistant|>\n", None),
        ("<answer>", None),
        ("", None),
    ],
)
def test_a_prompt_ends_inside_the_thought_that_was_opened_last_and_not_closed(prompt: str, tag: str | None) -> None:
    assert open_thought(prompt) == tag


@pytest.mark.parametrize(
    ("token", "is_tag"),
    [("<think>", True), ("</think>", True), ("[THINK]", True), ("[/THINK]", True), ("<|end|>", False), ("<s>", False)],
)
def test_the_tags_of_thoughts_are_told_from_other_tokens(token: str, is_tag: bool) -> None:
    assert is_thought_tag(token) is is_tag
