"""Chat completions of adapters by a real vLLM: prompt and reply are those of the stages, whatever the template does."""

import json
import shutil
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from tests.fetched_models import MODELS
from tests.vllm.adapters import random_adapter
from tests.vllm.conftest import SMOLLM, Rig, running
from transformers import AutoTokenizer

from craft.contracts.services.model_server import BASE_MODEL_HEADER, AdapterChat
from craft.contracts.spec.chats import ChatFormat
from craft.core.prompts import ModelMessage
from craft.infra.models.chats.renderer import ChatRenderer
from craft.infra.models.folders import served_path
from craft_inference.engine import Prompt, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(500)]

HYBRID = (
    "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}"
    "{{- '<|im_start|>system\\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\\n' }}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking %}{{- 'Let me think.\\n' }}{%- endif %}{%- endif %}"
)
ASKED = ModelMessage("user", "What is the capital of France? ")
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server of a model whose template thinks by default and writes the date."""
    models = tmp_path_factory.mktemp("hybrid-models")
    shutil.copytree(MODELS / SMOLLM, models / SMOLLM)
    (models / SMOLLM / "chat_template.jinja").write_text(HYBRID)
    with running(tmp_path_factory.mktemp("hybrid"), models) as rig:
        yield rig


def completed(rig: Rig, name: str, form: ChatFormat) -> tuple[dict[str, Any], str, int]:
    """The chat completion of an adapter of this form, and the engine's reply and number of prompt tokens."""
    folder = rig.state / "made" / name
    random_adapter(rig.models / SMOLLM, folder)
    chat = ChatRenderer(AutoTokenizer.from_pretrained(rig.models / SMOLLM), form)
    described = AdapterChat(
        arguments=form.arguments,
        end_tokens=list(chat.end_tokens(None)),
        template=chat.own_template,
        tokens={"bos_token": chat.tokenizer.bos_token, "eos_token": chat.tokenizer.eos_token},
    )
    (folder / "chat_format.json").write_text(described.model_dump_json())
    rig.adapters.publish(name, folder, base_model=served_path(rig.base(dtype="float32").model))
    engine = rig.engine(dtype="float32")
    engine.use_form(form)
    replies = engine.generate([Prompt("q", (ASKED,))], Sampling(max_new_tokens=NEW_TOKENS), adapter=folder)
    body = {"model": name, "messages": [ASKED._asdict()], "max_tokens": NEW_TOKENS, "temperature": 0.0}
    with rig.http as http:
        headers = {BASE_MODEL_HEADER: rig.base(dtype="float32").model_dump_json()}
        answer = http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.is_success, answer.text
    return answer.json(), replies.rows[0].texts[0], len(chat.ids([chat.prompt([ASKED])])[0])


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("adpt-thinking", ChatFormat(arguments={"enable_thinking": True}, date=date(2020, 2, 3))),
        ("adpt-answering", ChatFormat(arguments={"enable_thinking": False}, date=date(2020, 12, 31))),
        ("adpt-own", ChatFormat(template=HYBRID.replace("system", "user").replace("strftime_now('%d %B %Y')", "'x'"))),
    ],
)
def test_an_adapter_is_asked_with_its_own_form_of_chats(hybrid: Rig, name: str, form: ChatFormat) -> None:
    answer, reply, tokens = completed(hybrid, name, form)
    assert answer["usage"]["prompt_tokens"] == tokens
    assert answer["choices"][0]["message"]["content"] == reply, json.dumps(answer)


def test_arguments_alone_need_no_rendering_here(hybrid: Rig) -> None:
    undated = HYBRID.replace("strftime_now('%d %B %Y')", "'this day'")
    (hybrid.models / SMOLLM / "chat_template.jinja").write_text(undated)
    with running(hybrid.state / "undated", hybrid.models) as rig:
        for name, thinks in (("adpt-off", False), ("adpt-on", True)):
            answer, reply, tokens = completed(rig, name, ChatFormat(arguments={"enable_thinking": thinks}))
            assert answer["usage"]["prompt_tokens"] == tokens
            assert answer["choices"][0]["message"]["content"] == reply
