"""The fast decoder gives the same tokens as the model's own forward pass."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.services.inference.conftest import fast_engine, letter_prompts, plain_engine, prompts, write_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from craft_inference.embedded import prefix_attention
from craft_inference.embedded.attention import Attended, KeyValues, attend, merge
from craft_inference.embedded.decoding import shared_prefix_length
from craft_inference.engine import Engine, Sampling

QUESTIONS = (
    "what is x?",
    "who wrote the long book about y and its many neighbours?",
    "z?",
    "where is w, and why?",
    "what",
)
SAMPLED = Sampling(max_new_tokens=20, samples=3, temperature=1.0, seed=5)
GREEDY = Sampling(max_new_tokens=20)


def texts(engine: Engine, questions: Iterable[str], sampling: Sampling) -> dict[str, tuple[str, ...]]:
    return {row.id: row.texts for row in engine.generate(prompts(*questions), sampling).rows}


@pytest.mark.parametrize("architecture", sorted(prefix_attention.ARCHITECTURES))
def test_every_architecture_replies_as_its_own_forward(architecture: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(architecture)
    fast, plain = fast_engine(folder), plain_engine(folder)

    assert fast.describe().attention == "shared-prefix"
    for sampling in (GREEDY, SAMPLED):
        assert texts(fast, QUESTIONS, sampling) == texts(plain, QUESTIONS, sampling)


def test_replies_differ_by_sample_and_end_at_different_places(llama: Path) -> None:
    replies = texts(fast_engine(llama), QUESTIONS, Sampling(max_new_tokens=40, samples=8, temperature=1.0))

    assert len({text for row in replies.values() for text in row}) > 30
    assert len({len(text) for row in replies.values() for text in row}) > 5


@pytest.mark.parametrize("rows", [3, 4, 7, 320])
def test_how_many_rows_run_at_a_time_changes_no_reply(llama: Path, rows: int) -> None:
    many = [f"{word} {number}?" for number in range(5) for word in ("who", "what is the name of number")]

    assert texts(fast_engine(llama, rows=rows), many, SAMPLED) == texts(plain_engine(llama, rows=40), many, SAMPLED)


def test_a_samples_buffer_grows_with_its_reply(llama: Path) -> None:
    long = Sampling(max_new_tokens=150, samples=2, temperature=0.3, seed=1)
    questions = ("a?", "b?", "c?")

    assert texts(fast_engine(llama), questions, long) == texts(plain_engine(llama), questions, long)


def test_order_of_the_prompts_changes_no_reply(llama: Path) -> None:
    engine = fast_engine(llama)
    asked = prompts(*QUESTIONS)
    forwards = {row.id: row.texts for row in engine.generate(asked, SAMPLED).rows}
    backwards = {row.id: row.texts for row in engine.generate(asked[::-1], SAMPLED).rows}

    assert forwards == backwards


def test_one_prompt_alone_shares_nothing_and_still_works(llama: Path) -> None:
    assert texts(fast_engine(llama), ["alone?"], SAMPLED) == texts(plain_engine(llama), ["alone?"], SAMPLED)


def test_no_prompts_give_no_replies(llama: Path) -> None:
    assert fast_engine(llama).generate([], SAMPLED).rows == ()
    assert fast_engine(llama).letters([]).rows == ()


def test_letters_are_the_next_tokens_log_probabilities(llama: Path) -> None:
    asked = letter_prompts(*QUESTIONS)
    tokenizer: Any = AutoTokenizer.from_pretrained(llama)
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)

    for prompt, row in zip(asked, fast_engine(llama).letters(asked).rows, strict=True):
        ids = tokenizer.apply_chat_template(
            [message._asdict() for message in prompt.messages],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )["input_ids"]
        with torch.inference_mode():
            expected = torch.log_softmax(model(ids).logits[0, -1], dim=-1)[tokenizer.convert_tokens_to_ids(list("ABC"))]
        assert row.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_letters_equal_the_plain_decoders(llama: Path) -> None:
    asked = letter_prompts(*QUESTIONS)
    plain = plain_engine(llama, rows=2).letters(asked).rows

    for fast_row, plain_row in zip(fast_engine(llama).letters(asked).rows, plain, strict=True):
        assert fast_row.logprobs == pytest.approx(plain_row.logprobs, abs=1e-5)


def test_shared_tokens_are_prefilled_once_and_a_question_once_for_all_samples(llama: Path) -> None:
    one, ten = (
        fast_engine(llama).generate(prompts(*QUESTIONS), Sampling(max_new_tokens=4, samples=n, temperature=1.0)).usage
        for n in (1, 10)
    )
    plain = plain_engine(llama).generate(prompts(*QUESTIONS), GREEDY).usage
    shared = len("<|>user\nQuestion: how many legs?<|>\n<|>assistant\n8<|>\n<|>user\nQuestion: ") - 2 * 5

    assert ten.prefilled_tokens == one.prefilled_tokens
    assert one.prompt_tokens == plain.prompt_tokens == plain.prefilled_tokens
    assert one.prompt_tokens - one.prefilled_tokens == shared * (len(QUESTIONS) - 1)


@pytest.mark.parametrize("make", [fast_engine, plain_engine])
def test_progress_ends_at_all_prompts(llama: Path, make: Callable[..., Engine]) -> None:
    seen: list[tuple[int, int]] = []
    make(llama, rows=4).generate(
        prompts(*QUESTIONS), SAMPLED, on_progress=lambda done, total: seen.append((done, total))
    )

    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_sliding_window_models_use_the_plain_decoder(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "MistralForCausalLM", sliding_window=16)

    assert not prefix_attention.supports(AutoConfig.from_pretrained(folder))
    assert fast_engine(folder).describe().attention == "plain"
    assert texts(fast_engine(folder), QUESTIONS, GREEDY) == texts(plain_engine(folder), QUESTIONS, GREEDY)


@pytest.mark.parametrize(
    ("prompts_", "expected"),
    [([[1, 2, 3]], 0), ([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2, 3]], 1), ([[1, 2], [1, 2]], 1), ([[1], [2]], 0)],
)
def test_the_shared_prefix_leaves_each_prompt_a_token(prompts_: list[list[int]], expected: int) -> None:
    assert shared_prefix_length(prompts_) == expected


def test_merged_parts_are_attention_over_their_union() -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 11, 8), torch.randn(2, 3, 11, 8)
    parts = [attend(query, KeyValues(keys[:, :, at], values[:, :, at]), None) for at in (slice(0, 5), slice(5, 11))]

    assert torch.allclose(merge(parts), torch.softmax(query @ keys.mT, -1) @ values, atol=1e-6)


def test_long_inputs_are_attended_to_in_pieces() -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(1, 1, 5000, 2), KeyValues(torch.randn(1, 1, 8000, 2), torch.randn(1, 1, 8000, 2))
    mask = torch.zeros(5000, 8000)
    mask[-1, 1:] = -torch.inf
    found = attend(query, keys, mask)

    assert isinstance(found, Attended)
    assert found.output.shape == (1, 1, 5000, 2)
    assert torch.allclose(found.output[0, 0, -1], keys.values[0, 0, 0])
    head = torch.softmax(query[:, :, :9] @ keys.keys.mT, -1) @ keys.values
    assert torch.allclose(found.output[:, :, :9], head, atol=1e-5)
