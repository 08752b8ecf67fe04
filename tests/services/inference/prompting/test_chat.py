"""Chats as tokens."""

from pathlib import Path

import pytest
from tests.services.inference.conftest import CONTEXT_LENGTH, byte_tokenizer, fast_engine, letter_prompts, prompts

from craft.errors import ContextTooLong, ModelRejected, RequestInvalid
from craft_inference.engine import LetterPrompt, Sampling
from craft_inference.prompting.chat import Chat


def chat(context_length: int = CONTEXT_LENGTH) -> Chat:
    return Chat(byte_tokenizer(), end_tokens=[2], context_length=context_length)


def test_a_chat_ends_with_the_assistants_header_and_nothing_is_added() -> None:
    (ids,) = chat().encode(prompts("x?"), new_tokens=1)

    assert ids[0] == 1
    assert chat().decode(ids).endswith("Question: x?\nassistant\n")


def test_a_prompt_that_leaves_no_space_is_refused_by_its_id(llama: Path) -> None:
    long = prompts("short?", "long " * 100)

    with pytest.raises(ContextTooLong, match="The prompt of q1 has"):
        fast_engine(llama).generate(long, Sampling(max_new_tokens=2))
    with pytest.raises(ContextTooLong, match="q1"):
        fast_engine(llama).letters([LetterPrompt(p.id, p.messages, ("A", "B")) for p in long])


def test_a_prompt_of_more_bytes_than_any_tokens_hold_is_not_tokenised() -> None:
    long = prompts("short?", "w" * 1600)
    with pytest.raises(ContextTooLong, match=r"The prompt of q1 has 1,\d+ bytes; the model's 100 tokens hold 1,600"):
        chat(100).encode(long, new_tokens=1)


def test_space_for_new_tokens_counts() -> None:
    (ids,) = chat().encode(prompts("x?"), new_tokens=1)
    exactly = chat(len(ids) + 10)

    assert exactly.encode(prompts("x?"), new_tokens=10) == [ids]
    with pytest.raises(ContextTooLong):
        exactly.encode(prompts("x?"), new_tokens=11)


def test_letters_are_single_tokens_in_the_order_offered() -> None:
    tokenizer = byte_tokenizer()
    (tokens,) = chat().letter_tokens(letter_prompts("x?", letters="BA"))

    assert tokens == tokenizer.convert_tokens_to_ids(["B", "A"])


def test_a_letter_of_two_tokens_is_refused() -> None:
    (prompt,) = letter_prompts("x?")

    with pytest.raises(RequestInvalid, match="'AB' is not one token"):
        chat().letter_tokens([LetterPrompt(prompt.id, prompt.messages, ("A", "AB"))])


def test_a_model_without_a_chat_template_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None

    with pytest.raises(ModelRejected, match="no chat template"):
        Chat(tokenizer, end_tokens=[], context_length=10)
