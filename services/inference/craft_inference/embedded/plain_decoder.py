"""Decodes any decoder-only architecture with its own forward pass and cache; the reference for the fast decoder.

Prompts are padded on the left and prefilled once for all samples of a question, and finished samples leave the batch.
But every prompt carries its whole prefix, and each step copies the cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from craft.errors import ModelRejected
from craft_inference.embedded.causal_lm import in_float32
from craft_inference.embedded.decoding import Decoded, Draws, OnDone, Scored, Tokens
from craft_inference.embedded.sampling import draw


def check_caches(model: Any) -> None:
    """Raises ModelRejected for a model with another cache than keys and values: samples could not share a prompt's."""
    if model._is_stateful:
        raise ModelRejected(
            f"{type(model).__name__} keeps a running state in place of keys and values, which the embedded engine "
            "cannot copy to the samples of a question.",
            hint="Set CRAFT_INFERENCE__ENGINE=vllm, or choose a model whose layers are all attention.",
            param="base_model",
        )


@contextmanager
def _float32_head(model: Any) -> Iterator[None]:
    """Inside the block the output head multiplies in float32, and so does what follows it (caps and scales of logits).

    In bf16 a logit of 16 has steps of 0.125, so different letters would tie.
    """
    hook = model.get_output_embeddings().register_forward_hook(lambda head, given, _: in_float32(head, given[0]))
    try:
        yield
    finally:
        hook.remove()


class PlainDecoder:
    """Runs at most `rows` samples at a time."""

    def __init__(self, model: Any, *, end_tokens: Sequence[int], rows: int) -> None:
        self._model = model
        self._end = np.array(sorted(end_tokens), dtype=np.int64)
        self._rows = rows
        self._device: torch.device = model.device

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Tokens], draws: Draws, on_done: OnDone) -> Decoded:
        """See `Decoding.sample`."""
        tokens: list[list[list[int]]] = [[] for _ in prompts]
        for batch in self._batches(prompts, max(1, self._rows // draws.samples)):
            generated = self._sample_batch([prompts[number] for number in batch], batch, draws)
            for place, number in enumerate(batch):
                tokens[number] = generated[place * draws.samples : (place + 1) * draws.samples]
            on_done(len(batch))
        return Decoded(tokens, sum(map(len, prompts)))

    @torch.inference_mode()
    def score(self, prompts: Sequence[Tokens], choices: Sequence[Tokens], on_done: OnDone) -> Scored:
        """See `Decoding.score`."""
        logprobs: list[list[float]] = [[] for _ in prompts]
        with _float32_head(self._model):
            for batch in self._batches(prompts, self._rows):
                tokens, mask = self._padded([prompts[number] for number in batch])
                logits = self._forward(tokens, mask, None)
                for number, row in zip(batch, torch.log_softmax(logits.float(), dim=-1), strict=True):
                    logprobs[number] = row[list(choices[number])].tolist()
                on_done(len(batch))
        return Scored(logprobs, sum(map(len, prompts)))

    @staticmethod
    def _batches(prompts: Sequence[Tokens], size: int) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        return [order[at : at + size] for at in range(0, len(order), size)]

    def _padded(self, prompts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, prompts))
        tokens = [[*[0] * (longest - len(prompt)), *prompt] for prompt in prompts]
        mask = [[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts]
        return torch.tensor(tokens, device=self._device), torch.tensor(mask, device=self._device)

    def _forward(self, tokens: Tensor, mask: Tensor, cache: DynamicCache | None) -> Tensor:
        """The logits (rows, vocabulary) after the last of `tokens`. The mask covers the cache too."""
        positions = (mask.cumsum(dim=-1) - 1).clamp_(min=0)[:, -tokens.shape[1] :]
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _sample_batch(self, prompts: Sequence[Tokens], numbers: Sequence[int], draws: Draws) -> list[list[int]]:
        samples = draws.samples
        cache = DynamicCache(config=self._model.config)
        tokens, mask = self._padded(prompts)
        logits = self._forward(tokens, mask, cache).repeat_interleave(samples, dim=0)
        mask = mask.repeat_interleave(samples, dim=0)
        cache.batch_repeat_interleave(samples)
        streams = np.stack([draws.stream(number, sample) for number in numbers for sample in range(samples)])
        generated: list[list[int]] = [[] for _ in streams]
        live: NDArray[np.int64] = np.arange(len(streams))
        for position in range(draws.max_new_tokens):
            uniform = torch.from_numpy(streams[live, position]).to(self._device)
            drawn = draw(logits, uniform, temperature=draws.temperature, top_p=draws.top_p).cpu().numpy()
            for row, token in zip(live, drawn, strict=True):
                generated[row].append(int(token))
            unfinished = np.flatnonzero(~np.isin(drawn, self._end))
            if not len(unfinished) or position + 1 == draws.max_new_tokens:
                break
            live, keep = live[unfinished], torch.from_numpy(unfinished).to(self._device)
            cache.batch_select_indices(keep)
            mask = torch.nn.functional.pad(mask[keep], (0, 1), value=1)
            logits = self._forward(torch.from_numpy(drawn[unfinished]).to(self._device)[:, None], mask, cache)
        return generated
