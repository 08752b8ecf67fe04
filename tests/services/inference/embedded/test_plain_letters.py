"""The letters of architectures on the plain path have probabilities in float32, in a model of 16 bits too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.services.inference.conftest import letter_prompts
from transformers import AutoModelForCausalLM, AutoTokenizer

from craft.errors import ModelRejected
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.embedded.plain_decoder import check_caches


def test_letters_of_a_model_in_16_bits_are_not_rounded_to_its_steps(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(llama)
    engine = TransformersEngine(model, tokenizer, plain=True)
    [asked] = letter_prompts("how many?", letters="ABCDEFGHIJ")
    [found] = engine.letters([asked]).rows
    text = tokenizer.apply_chat_template(
        [turn._asdict() for turn in asked.messages], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        hidden = decoder(ids).last_hidden_state[0, -1]
        exact = torch.log_softmax(hidden.float() @ model.lm_head.weight.float().T, dim=-1)
        rounded = torch.log_softmax((hidden @ model.lm_head.weight.T).float(), dim=-1)
        after = model.lm_head(hidden)
    expected = [float(exact[tokenizer.convert_tokens_to_ids(letter)]) for letter in asked.letters]
    assert found.logprobs == pytest.approx(expected, abs=1e-5)
    assert (exact - rounded).abs().max() > 1e-3
    assert after.dtype is torch.bfloat16


def test_a_model_that_keeps_a_running_state_is_refused_with_what_to_do() -> None:
    class Recurrent:
        _is_stateful = True

    with pytest.raises(ModelRejected, match="running state") as caught:
        check_caches(Recurrent())
    assert "CRAFT_INFERENCE__ENGINE=vllm" in (caught.value.hint or "")
