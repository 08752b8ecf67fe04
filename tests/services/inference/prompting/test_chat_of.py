"""The chat of a model whose weights are loaded elsewhere."""

import json
from pathlib import Path

import pytest
from tests.services.inference.conftest import CONTEXT_LENGTH, byte_tokenizer, prompts

from craft.errors import ModelRejected
from craft_inference.prompting.chat import chat_of


def test_it_is_the_models_own_within_its_context(llama: Path) -> None:
    chat = chat_of(llama, max_tokens=None)
    assert chat.context_length == CONTEXT_LENGTH
    assert 2 in chat.end_tokens
    (ids,) = chat.encode(prompts("x?"), new_tokens=1)
    assert byte_tokenizer().decode(ids).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(("most", "length"), [(100, 100), (10_000, CONTEXT_LENGTH)])
def test_the_servers_limit_counts_where_it_is_less(llama: Path, most: int, length: int) -> None:
    assert chat_of(llama, max_tokens=most).context_length == length


def test_no_weights_are_read(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert chat_of(tmp_path, max_tokens=None).context_length == CONTEXT_LENGTH


def test_the_generation_settings_name_further_end_tokens(llama: Path, tmp_path: Path) -> None:
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert set(chat_of(tmp_path, max_tokens=None).end_tokens) >= {2, 7}


@pytest.mark.parametrize("content", ["", "{", '{"model_type": "no_such_kind"}'])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelRejected) as caught:
        chat_of(tmp_path, max_tokens=None)
    assert caught.value.param == "base_model"
