"""A served adapter is asked in the form of chats with which it was evaluated, whatever vLLM's own defaults are."""

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.models.families import LLAMA32, QWEN3, Family, write_tokenizer
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from craft.contracts.services.model_server import AdapterChat
from craft.contracts.spec.chats import ChatFormat
from craft.core.prompts import ModelMessage
from craft.errors import ModelRejected
from craft.infra.models.chats.renderer import ChatRenderer
from craft_inference.model_server.adapter_chats import AdapterChats

ADAPTER = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
ASKED = {"model": ADAPTER, "messages": [{"role": "user", "content": "Who?"}], "temperature": 0.0}
NO_THOUGHT = ChatFormat(arguments={"enable_thinking": False})
FEBRUARY = ChatFormat(date=date(2026, 2, 3))


def renderer(family: Family, folder: Path, form: ChatFormat) -> ChatRenderer:
    return ChatRenderer(AutoTokenizer.from_pretrained(write_tokenizer(family, folder / "model")), form)


def served(folder: Path, chat: ChatRenderer, *, name: str = ADAPTER) -> AdapterChats:
    """Chats of one adapter that was packaged in this form."""
    (folder / "served" / name).mkdir(parents=True)
    packaged = AdapterChat(
        arguments=dict(chat.arguments),
        end_tokens=list(chat.end_tokens(None)),
        template=chat.own_template,
        tokens={"bos_token": chat.tokenizer.bos_token} if chat.tokenizer.bos_token else {},
    )
    (folder / "served" / name / "chat_format.json").write_text(packaged.model_dump_json())
    return AdapterChats(folder / "served")


def completed(chats: AdapterChats, request: object) -> Any:
    return json.loads(asyncio.run(chats.completed(json.dumps(request).encode())))


def as_vllm_renders(request: dict[str, Any], own_template: str) -> str:
    """The prompt that vLLM makes of a request: transformers' rendering, with the request's template and arguments."""
    rendered: Any = render_jinja_template(
        [request["messages"]],
        chat_template=request.get("chat_template", own_template),
        add_generation_prompt=True,
        **request["chat_template_kwargs"],
    )
    return str(rendered[0][0])


def test_a_request_carries_the_arguments_and_the_ends_of_its_adapter(tmp_path: Path) -> None:
    chat = renderer(QWEN3, tmp_path, NO_THOUGHT)
    request = completed(served(tmp_path, chat), ASKED)
    assert request.pop("chat_template_kwargs") == {"enable_thinking": False}
    assert request.pop("stop_token_ids") == [chat.end_of_turn]
    assert request == ASKED


def test_a_hybrid_model_is_served_with_the_prompt_that_was_evaluated(tmp_path: Path) -> None:
    chat = renderer(QWEN3, tmp_path, NO_THOUGHT)
    request = completed(served(tmp_path, chat), ASKED)
    assert as_vllm_renders(request, QWEN3.template) == chat.prompt([ModelMessage("user", "Who?")])


@pytest.mark.parametrize("content", ["Who?", [{"type": "text", "text": "Who?"}]])
def test_a_dated_model_is_served_with_the_date_that_was_evaluated(tmp_path: Path, content: object) -> None:
    chat = renderer(LLAMA32, tmp_path, FEBRUARY)
    asked = {**ASKED, "messages": [{"role": "user", "content": content}]}
    request = completed(served(tmp_path, chat), asked)
    assert request["messages"] == asked["messages"]
    assert as_vllm_renders(request, LLAMA32.template) == chat.prompt([ModelMessage("user", "Who?")])
    assert "Today: 03 Feb 2026" in as_vllm_renders(request, LLAMA32.template)


def test_a_message_that_looks_like_a_template_stays_text(tmp_path: Path) -> None:
    chat = renderer(LLAMA32, tmp_path, FEBRUARY)
    question = "{{ 7 * 6 }}{% raw %}  "
    request = completed(served(tmp_path, chat), {**ASKED, "messages": [{"role": "user", "content": question}]})
    assert as_vllm_renders(request, LLAMA32.template) == chat.prompt([ModelMessage("user", question)])


def test_two_adapters_of_one_base_keep_their_own_forms(tmp_path: Path) -> None:
    other = ADAPTER.replace("01", "02")
    first = served(tmp_path, renderer(QWEN3, tmp_path, NO_THOUGHT))
    thinking = renderer(QWEN3, tmp_path, ChatFormat(arguments={"enable_thinking": True}))
    served(tmp_path, thinking, name=other)
    kept = [completed(first, {**ASKED, "model": name})["chat_template_kwargs"] for name in (ADAPTER, other)]
    assert kept == [{"enable_thinking": False}, {"enable_thinking": True}]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**ASKED, "model": "adpt_unknown"}).encode(),
        json.dumps({**ASKED, "model": "../served/x"}).encode(),
        json.dumps({**ASKED, "model": 3}).encode(),
        b"[1]",
        b"{",
        b"",
    ],
)
def test_what_names_no_adapter_of_a_known_form_is_left_to_vllm(tmp_path: Path, body: bytes) -> None:
    chats = served(tmp_path, renderer(QWEN3, tmp_path, NO_THOUGHT))
    assert asyncio.run(chats.completed(body)) == body


@pytest.mark.parametrize(
    "messages", [None, [], "x", [3], [{"role": "user"}], [{"role": "user", "content": [{"a": 1}]}]]
)
def test_messages_that_are_none_are_left_to_vllm(tmp_path: Path, messages: object) -> None:
    chats = served(tmp_path, renderer(LLAMA32, tmp_path, FEBRUARY))
    assert "chat_template" not in completed(chats, {**ASKED, "messages": messages})


def test_a_chat_that_the_template_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    refusing = "{{ raise_exception('too many turns') if messages | length > 2 }}" + QWEN3.template
    chats = served(tmp_path, renderer(QWEN3, tmp_path, ChatFormat(template=refusing)))
    with pytest.raises(ModelRejected, match="too many turns"):
        completed(chats, {**ASKED, "messages": [{"role": "user", "content": "Who?"}] * 3})
