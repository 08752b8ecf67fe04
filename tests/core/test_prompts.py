"""The prompts, word for word."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.prompts import (
    DEFAULT_TEMPLATES,
    ModelMessage,
    PromptMode,
    PromptTemplates,
    answer_messages,
    answer_template,
    probe_messages,
    target,
    templates_from,
)
from craft.core.questions import ChoiceQuestion, OpenQuestion, Task
from craft.core.shots import DEFAULT_CHOICE_SHOTS, DEFAULT_OPEN_SHOTS
from craft.errors import RequestInvalid

SHOT = OpenQuestion("shot", "How many legs has an ant?", ("6", "six"))
WHO = OpenQuestion("who", "Who?", ("Bond",))
ROCK = ChoiceQuestion("rock", "What is granite?", ("A tree", "A rock", "A fish"), 1, "earth_science")
COIN = ChoiceQuestion("coin", "Which side?", ("Heads", "Tails"), 0)


def test_open_probe() -> None:
    assert probe_messages(WHO, [SHOT], DEFAULT_TEMPLATES) == [
        ModelMessage(
            "user",
            "Answer the following question as simple as possible.\nQuestion: How many legs has an ant?\nAnswer:",
        ),
        ModelMessage("assistant", "6"),
        ModelMessage("user", "Answer the following question as simple as possible.\nQuestion: Who?\nAnswer:"),
    ]


def test_open_basic_and_refuse() -> None:
    assert answer_messages(WHO, PromptMode.BASIC, DEFAULT_TEMPLATES) == [ModelMessage("user", "Who?")]
    assert answer_messages(WHO, PromptMode.REFUSE, DEFAULT_TEMPLATES) == [
        ModelMessage(
            "user",
            "Answer the following question, and if you don't know the answer, only reply with 'I don't know': Who?",
        )
    ]


def test_choice_basic_and_refuse() -> None:
    assert answer_messages(ROCK, PromptMode.BASIC, DEFAULT_TEMPLATES) == [
        ModelMessage(
            "user",
            "There is a single choice question about earth science. Answer the question by replying A, B or C.\n"
            "Question: What is granite?\nA. A tree\nB. A rock\nC. A fish\nAnswer: ",
        )
    ]
    assert answer_messages(ROCK, PromptMode.REFUSE, DEFAULT_TEMPLATES) == [
        ModelMessage(
            "user",
            "There is a single choice question about earth science. If you know the answer, please directly respond "
            "with the correct answer A, B, or C. If you do not know the answer, please respond with "
            '"I don\'t know.".\nQuestion: What is granite?\nA. A tree\nB. A rock\nC. A fish\nAnswer: ',
        )
    ]


def test_choice_probe_uses_the_basic_form_and_answers_with_a_letter() -> None:
    basic = answer_messages(ROCK, PromptMode.BASIC, DEFAULT_TEMPLATES)
    assert probe_messages(COIN, [ROCK], DEFAULT_TEMPLATES)[:2] == [*basic, ModelMessage("assistant", "B")]


def test_two_options_need_no_comma_and_no_category_has_a_topic() -> None:
    text = answer_messages(COIN, PromptMode.REFUSE, DEFAULT_TEMPLATES)[0].content
    assert "about general knowledge." in text
    assert "answer A or B." in text


def test_targets() -> None:
    assert target(SHOT, DEFAULT_TEMPLATES) == "6"
    assert target(ROCK, DEFAULT_TEMPLATES) == "B"


def test_the_refusal_text_is_the_same_in_the_prompt_and_in_the_target() -> None:
    german = templates_from({"refusal": "Weiß ich nicht."})
    assert "'Weiß ich nicht'" in answer_messages(WHO, PromptMode.REFUSE, german)[0].content
    assert '"Weiß ich nicht."' in answer_messages(COIN, PromptMode.REFUSE, german)[0].content


def test_a_job_may_replace_templates() -> None:
    own = templates_from({"open_basic": "Q {question} {x", "choice_option": "{letter}) {option}", "or_word": "oder"})
    assert answer_messages(WHO, PromptMode.BASIC, own)[0].content == "Q Who? {x"
    assert "replying A oder B.\nQuestion: Which side?\nA) Heads\nB) Tails" in (
        answer_messages(COIN, PromptMode.BASIC, own)[0].content
    )


@pytest.mark.parametrize(
    "overrides",
    [
        {"nonsense": "x"},
        {"open_basic": "  "},
        {"open_basic": "no placeholder"},
        {"choice_basic": "{question}"},
        {"open_basic": "{question} {options}"},
        {"refusal": "I don't know {question}"},
        {"open_basic": "{question}" * 5},
        {"open_basic": "{question}" + "x" * 20_000},
        {"choice_target": "{letter}" + "é" * 1000},
    ],
)
def test_a_template_that_cannot_work_is_refused(overrides: dict[str, str]) -> None:
    with pytest.raises(RequestInvalid) as caught:
        templates_from(overrides)
    assert caught.value.param in overrides


def test_a_placeholder_may_come_four_times_and_a_template_may_have_20_kilobytes() -> None:
    long = "{question}" * 4 + "x" * (20_000 - 40)
    assert templates_from({"open_basic": long}).open_basic == long


def test_the_defaults_pass_their_own_check() -> None:
    overrides = {field.name: getattr(DEFAULT_TEMPLATES, field.name) for field in fields(PromptTemplates)}
    assert templates_from(overrides) == DEFAULT_TEMPLATES


@given(st.text())
def test_a_question_survives_literally(text: str) -> None:
    question = OpenQuestion("q", text + "{question} {0} {refusal} %s", ("x",))
    content = answer_messages(question, PromptMode.REFUSE, DEFAULT_TEMPLATES)[0].content
    assert content.endswith("'I don't know': " + question.question)


def test_braces_in_options_survive() -> None:
    question = ChoiceQuestion("q", "{topic}", ("{letter}", "{letters}"), 0, "{question}")
    assert "\nQuestion: {topic}\nA. {letter}\nB. {letters}\n" in (
        answer_messages(question, PromptMode.BASIC, DEFAULT_TEMPLATES)[0].content
    )


def test_a_shot_of_the_other_task_is_refused() -> None:
    with pytest.raises(RequestInvalid):
        probe_messages(WHO, [ROCK], DEFAULT_TEMPLATES)


def test_built_in_shots() -> None:
    assert len(DEFAULT_OPEN_SHOTS) == 3
    assert len(DEFAULT_CHOICE_SHOTS) == 5
    assert all(shot.id.startswith("shot_") for shot in (*DEFAULT_OPEN_SHOTS, *DEFAULT_CHOICE_SHOTS))
    assert {shot.answer_letter for shot in DEFAULT_CHOICE_SHOTS} == {"A", "B", "C", "D"}


@pytest.mark.parametrize("mode", PromptMode)
def test_a_template_is_the_prompt_but_for_the_question(mode: PromptMode) -> None:
    [message] = answer_messages(WHO, mode, DEFAULT_TEMPLATES)
    wording = answer_template(Task.OPEN_ENDED, mode, DEFAULT_TEMPLATES)
    topic = DEFAULT_TEMPLATES.default_topic.replace("_", " ")
    assert wording.replace("{question}", WHO.question).replace("{topic}", topic) == message.content
    assert "{options}" in answer_template(Task.MULTIPLE_CHOICE, mode, DEFAULT_TEMPLATES)
