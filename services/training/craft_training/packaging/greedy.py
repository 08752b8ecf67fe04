"""Greedy replies by transformers' own `generate`, which shares no code with the serving engine.

The settings are those of the evaluation alone: transformers would mix in the penalties, lengths and forbidden words of
the base model's generation_config.json.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import GenerationConfig

from craft.infra.models.chats.renderer import ChatRenderer

_BATCH = 16


def greedy(
    model: PeftModel,
    chat: ChatRenderer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    on_progress: Callable[[int, int], None],
) -> list[str]:
    """One reply to each rendered prompt, without special tokens, in the prompts' order."""
    base: Any = model.get_base_model()
    settings = greedy_settings(base.generation_config, chat, max_new_tokens=max_new_tokens)
    # In its place, because what `generate` is given as an argument is filled up from it.
    base.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]
    replies: list[str] = []
    for start in range(0, len(prompts), _BATCH):
        tokens, mask = _left_padded(chat.ids(prompts[start : start + _BATCH]))
        with torch.inference_mode():
            out = model.generate(  # type: ignore[no-untyped-call]
                input_ids=tokens.to(model.device), attention_mask=mask.to(model.device)
            )
        replies += [chat.decode(row) for row in out[:, tokens.shape[1] :].tolist()]
        on_progress(len(replies), len(prompts))
    return replies


def greedy_settings(generation: Any, chat: ChatRenderer, *, max_new_tokens: int) -> dict[str, Any]:
    """The evaluation's settings as `GenerationConfig` takes them; `generation` is the base model's configuration.

    A reply ends at the tokens at which the serving engine ends it.
    """
    ends, pad = list(chat.end_tokens(generation)), chat.tokenizer.pad_token_id
    return {
        "do_sample": False,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "min_length": 0,
        "max_new_tokens": max_new_tokens,
        "eos_token_id": ends,
        "pad_token_id": ends[0] if pad is None else int(pad),
    }


class DifferingReply(NamedTuple):
    """Two different replies to one rendered prompt."""

    prompt: str
    own: str
    other: str


def margins(model: PeftModel, chat: ChatRenderer, differing: Sequence[DifferingReply]) -> list[float]:
    """For each pair, the model's preference in nats between the two tokens at which the replies first differ."""
    end = chat.end_of_turn
    contexts: list[list[int]] = []
    choices: list[tuple[int, int]] = []
    for pair in differing:
        prompt, *replies = chat.ids(pair)
        first, second = ([*reply, end] for reply in replies)
        at = next(place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        contexts.append([*prompt, *first[:at]])
        choices.append((first[at], second[at]))
    results: list[float] = []
    for start in range(0, len(contexts), _BATCH):
        logits = _next_logits(model, contexts[start : start + _BATCH])
        for row, (own, other) in zip(logits, choices[start : start + _BATCH], strict=True):
            results.append(abs(float(row[own] - row[other])))
    return results


def largest_change(model: PeftModel, chat: ChatRenderer, prompts: Sequence[str]) -> float:
    """The largest change that the adapter makes to a logit of the first token behind at most 16 rendered prompts."""
    contexts = chat.ids(prompts[:_BATCH])
    adapted = _next_logits(model, contexts)
    with model.disable_adapter():
        return float((adapted - _next_logits(model, contexts)).abs().max())


def _next_logits(model: PeftModel, contexts: Sequence[Sequence[int]]) -> torch.Tensor:
    """The logits (contexts, vocabulary) of the next token, in float32."""
    tokens, mask = _left_padded(contexts)
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits: torch.Tensor = model(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=places.to(model.device),
            logits_to_keep=1,
        ).logits
    return logits[:, -1].float()


def _left_padded(ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, ids))
    tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    return tokens, mask
