"""Greedy replies by transformers' own `generate`, which shares no code with the serving engine."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import GenerationConfig

from craft_training.tuning.samples import end_of_turn

_BATCH = 16


def greedy(
    model: PeftModel,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    on_progress: Callable[[int, int], None],
) -> list[str]:
    """One reply to each rendered prompt, without special tokens, in the prompts' order."""
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=_ends(model, tokenizer),
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )
    replies: list[str] = []
    for start in range(0, len(prompts), _BATCH):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts[start : start + _BATCH]]
        tokens, mask = _left_padded(ids)
        with torch.inference_mode():
            out = model.generate(  # type: ignore[no-untyped-call]
                input_ids=tokens.to(model.device), attention_mask=mask.to(model.device), generation_config=config
            )
        replies += tokenizer.batch_decode(out[:, tokens.shape[1] :], skip_special_tokens=True)
        on_progress(len(replies), len(prompts))
    return replies


class DifferingReply(NamedTuple):
    """Two different replies to one rendered prompt."""

    prompt: str
    own: str
    other: str


def margins(model: PeftModel, tokenizer: Any, differing: Sequence[DifferingReply]) -> list[float]:
    """For each pair, the model's preference in nats between the two tokens at which the replies first differ."""
    end = end_of_turn(tokenizer)
    contexts: list[list[int]] = []
    choices: list[tuple[int, int]] = []
    for pair in differing:
        prompt, own, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair)
        own, other = [*own, end], [*other, end]
        at = next(place for place, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
        contexts.append([*prompt, *own[:at]])
        choices.append((own[at], other[at]))
    results: list[float] = []
    for start in range(0, len(contexts), _BATCH):
        tokens, mask = _left_padded(contexts[start : start + _BATCH])
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = (
                model(
                    input_ids=tokens.to(model.device),
                    attention_mask=mask.to(model.device),
                    position_ids=places.to(model.device),
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )
        for row, (own, other) in zip(logits, choices[start : start + _BATCH], strict=True):
            results.append(abs(float(row[own] - row[other])))
    return results


def _ends(model: PeftModel, tokenizer: Any) -> list[int]:
    """All tokens that end a reply: the model's own, and the one that ends a turn of the template."""
    base: Any = model.get_base_model()
    own = base.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return sorted({end_of_turn(tokenizer), *(int(token) for token in listed if token is not None)})


def _left_padded(ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, ids))
    tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    return tokens, mask
