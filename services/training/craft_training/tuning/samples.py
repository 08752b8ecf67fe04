"""Training rows as token ids, split exactly as the engine splits them: the rendered prompt, then the reply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from craft.contracts.stages.rows import ChatMessage, TrainingRow
from craft.errors import ContextTooLong, DatasetInvalid, ModelRejected

_MARK = "\u241ereply\u241e"


@dataclass(frozen=True, slots=True)
class Sample:
    """One supervised example. The loss is on `tokens[prompt_length:]`: the target and the token that ends the turn."""

    id: str
    tokens: tuple[int, ...]
    prompt_length: int


def tokenise(rows: Iterable[TrainingRow], tokenizer: Any, *, max_length: int) -> list[Sample]:
    """All rows as samples, in their order. `tokenizer` is a transformers tokenizer with a chat template.

    Raises DatasetInvalid for no rows, ModelRejected for a tokenizer without a chat template, and ContextTooLong with
    the first row of more than `max_length` tokens: a cut row would teach a reply to half a question.
    """
    end = end_of_turn(tokenizer)
    samples = [_sample(row, tokenizer, end) for row in rows]
    if not samples:
        raise DatasetInvalid("The training set is empty.", hint="Give more rows, or loosen the selection's thresholds.")
    for sample in samples:
        if len(sample.tokens) > max_length:
            raise ContextTooLong(
                f"Row {sample.id} has {len(sample.tokens)} tokens with its target; at most {max_length} are allowed.",
                hint="Shorten the row, or raise training.max_length where the model's context allows it.",
                param="training.max_length",
            )
    return samples


def prompt_text(messages: Sequence[ChatMessage], tokenizer: Any) -> str:
    """The chat, rendered up to the start of the assistant's reply."""
    return str(
        tokenizer.apply_chat_template(_turns(messages), add_generation_prompt=True, tokenize=False),
    )


def end_of_turn(tokenizer: Any) -> int:
    """The token with which the chat template ends an assistant's turn; without one, the tokenizer's end token.

    A model that learned another end token would not stop where the engine expects it.
    """
    if not tokenizer.chat_template:
        raise ModelRejected(
            "The model's tokenizer has no chat template.",
            hint="Choose an instruction-tuned model.",
            param="base_model",
        )
    chat = [ChatMessage(role="user", content="?"), ChatMessage(role="assistant", content=_MARK)]
    rendered = str(tokenizer.apply_chat_template(_turns(chat), tokenize=False))
    tail = tokenizer(rendered.rpartition(_MARK)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return int(tail[0] if tail and tail[0] in special else tokenizer.eos_token_id)


def _sample(row: TrainingRow, tokenizer: Any, end: int) -> Sample:
    prompt = tokenizer(prompt_text(row.messages, tokenizer), add_special_tokens=False)["input_ids"]
    target = tokenizer(row.target, add_special_tokens=False)["input_ids"]
    return Sample(id=row.id, tokens=(*prompt, *target, end), prompt_length=len(prompt))


def _turns(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
