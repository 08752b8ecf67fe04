"""The /v1 routes accept OpenAI's members within limits, without type conversion, and nothing else."""

from typing import Any

import pytest
from pydantic import ValidationError

from craft.contracts.openai.chat import ChatRequest
from craft.contracts.public.serving import DeployRequest
from craft.core.strategies import Strategy

CHAT: dict[str, Any] = {"model": "adpt_x", "messages": [{"role": "user", "content": "Why?"}]}


def test_an_openai_request_keeps_every_member() -> None:
    given = {
        **CHAT,
        "n": 8,
        "max_tokens": 2048,
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["\n", "."],
        "seed": -1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "logprobs": True,
        "top_logprobs": 20,
        "user": "u",
    }
    assert ChatRequest.model_validate(given).model_dump(exclude_none=True) == given


@pytest.mark.parametrize("member", sorted(set(ChatRequest.model_fields) - {"model", "messages"}))
def test_null_is_the_same_as_absent(member: str) -> None:
    assert ChatRequest.model_validate({**CHAT, member: None}) == ChatRequest.model_validate(CHAT)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("n", 0),
        ("n", 9),
        ("n", "1"),
        ("n", 1.5),
        ("max_tokens", 0),
        ("max_tokens", 2049),
        ("max_completion_tokens", 2049),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("stop", ""),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("seed", 2**63),
        ("stream", "yes"),
        ("stream_options", {"continuous": True}),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("top_logprobs", 21),
        ("user", "x" * 513),
        ("model", ""),
        ("messages", []),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
        ("tools", []),
        ("chat_template", "{{ x }}"),
        ("logit_bias", {}),
        ("prompt_logprobs", 1),
    ],
)
def test_what_is_out_of_bounds_or_unknown_is_refused(member: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({**CHAT, member: value})
    assert caught.value.errors()[0]["loc"][0] == member


def test_content_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]
    chat = ChatRequest.model_validate({**CHAT, "messages": [{"role": "user", "content": parts}]})
    assert chat.messages[0].model_dump(exclude_none=True)["content"] == parts


def test_a_deployment_names_a_strategy_or_none() -> None:
    assert DeployRequest.model_validate({}).strategy is None
    assert DeployRequest.model_validate({"strategy": "craft"}).strategy is Strategy.CRAFT
    with pytest.raises(ValidationError):
        DeployRequest.model_validate({"strategy": "magic"})
