"""Arguments of chat templates: what a job may give, and what it gets without."""

from typing import Any

import pytest
from pydantic import ValidationError

from craft.contracts.spec.chats import ChatFormat
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.parameters import ModelRef
from craft.contracts.validation import validation_message


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    return BaseModelRef.model_validate({"id": "tiny", "chat_template_arguments": given}).chat_template_arguments


def test_thinking_is_off_where_a_job_says_nothing() -> None:
    assert BaseModelRef(id="tiny").chat_template_arguments == {"enable_thinking": False, "thinking": False}


def test_an_argument_comes_on_top_of_the_defaults() -> None:
    assert arguments({"date_string": "today"}) == {"enable_thinking": False, "thinking": False, "date_string": "today"}
    assert arguments({"enable_thinking": True}) == {"enable_thinking": True, "thinking": False}


@pytest.mark.parametrize("value", [True, 0, 1, -0.5, "", "low"])
def test_a_value_keeps_its_type(value: object) -> None:
    kept = arguments({"x": value})["x"]
    assert (kept, type(kept)) == (value, type(value))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": None}, "must be true, false, a number or a short text, not null"),
        ({"x": ["low"]}, "must be true, false, a number or a short text, not a list"),
        ({"x": 10**10}, "must be at most"),
        ({"x": "a" * 201}, "may have at most 200 characters"),
        ({"1x": True}, "must be a variable's name"),
        ({"tools": True}, "is set by the rendering itself"),
        ({"bos_token": "x"}, "is set by the rendering itself"),
        ({f"a{number}": True for number in range(15)}, "may have at most 14 names beside the defaults"),
        ({f"a{number}": True for number in range(17)}, "may have at most 16 items"),
    ],
)
def test_what_no_template_can_take_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        arguments(given)
    assert words in validation_message(raised.value.errors()[0], body=BaseModelRef)


def test_models_of_the_same_files_share_their_weights_whatever_the_form_of_chats() -> None:
    plain = ModelRef(id="tiny", revision="main", digest="0" * 64)
    formed = plain.model_copy(update={"chat": ChatFormat(arguments={"thinking": False})})
    assert formed != plain
    assert formed.weights == plain
