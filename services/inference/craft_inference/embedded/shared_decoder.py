"""Decodes with a shared prefix and continuous batching: the next samples take the rows of finished ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from craft_inference.embedded.attention import KeyValues
from craft_inference.embedded.causal_lm import CausalLM
from craft_inference.embedded.decoding import Decoded, Draws, OnDone, Scored, Tokens, shared_prefix_length
from craft_inference.embedded.prefix_attention import PromptView
from craft_inference.embedded.running_batch import RunningBatch

_PREFILL_TOKENS = 4096  # the most tokens of questions that are prefilled at a time


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The tokens with which all prompts begin: keys and values by layer, or None with length 0."""

    layers: list[KeyValues] | None
    length: int


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """Questions after their forward pass: each layer's keys and values, and the last token's hidden states."""

    layers: list[KeyValues]
    last: Tensor


class SharedPrefixDecoder:
    """Prefills the shared prefix once for each call, each question once, and runs up to `rows` samples at a time.

    `buffer_bytes` limits the memory of the samples' own keys and values: long replies mean fewer rows.
    """

    def __init__(self, model: CausalLM, *, end_tokens: Sequence[int], rows: int, buffer_bytes: int = 4 * 2**30) -> None:
        self._model = model
        self._end = np.array(sorted(end_tokens), dtype=np.int64)
        self._rows = rows
        self._buffer_bytes = buffer_bytes

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Tokens], draws: Draws, on_done: OnDone) -> Decoded:
        """See `Decoding.sample`."""
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        prefix, own = self._split([prompts[number] for number in order])
        by_length = Draws(
            draws.samples,
            draws.max_new_tokens,
            draws.temperature,
            draws.top_p,
            lambda place, sample: draws.stream(order[place], sample),
        )
        batch = RunningBatch(
            self._model, prefix.layers, prefix.length, own, by_length, self._end, self._rows_that_fit(draws)
        )
        while not batch.finished:
            if questions := batch.next_questions(_PREFILL_TOKENS):
                prefilled = self._prefill([own[place] for place in questions], prefix)
                on_done(batch.start(questions, prefilled.layers, prefilled.last))
            on_done(batch.step())
        tokens = dict(zip(order, batch.results(), strict=True))
        return Decoded([tokens[number] for number in range(len(prompts))], prefix.length + sum(map(len, own)))

    @torch.inference_mode()
    def score(self, prompts: Sequence[Tokens], choices: Sequence[Tokens], on_done: OnDone) -> Scored:
        """See `Decoding.score`."""
        prefix, own = self._split(prompts)
        logprobs: list[list[float]] = [[] for _ in prompts]
        for batch in _batches(own, _PREFILL_TOKENS):
            last = self._prefill([own[number] for number in batch], prefix).last
            for place, piece in self._model.in_pieces(last):
                for number, row in zip(batch[place], self._model.logprobs(piece), strict=True):
                    logprobs[number] = row[list(choices[number])].tolist()
            on_done(len(batch))
        return Scored(logprobs, prefix.length + sum(map(len, own)))

    def _split(self, prompts: Sequence[Tokens]) -> tuple[_Prefix, list[Tokens]]:
        """The prefix after its forward pass, and the rest of each prompt."""
        shared = shared_prefix_length(prompts)
        empty = _Prefix(None, 0)
        prefix = _Prefix(self._prefill([prompts[0][:shared]], empty).layers, shared) if shared else empty
        return prefix, [prompt[shared:] for prompt in prompts]

    def _prefill(self, own: Sequence[Tokens], prefix: _Prefix) -> _Prefilled:
        model = self._model
        lengths = torch.tensor([len(tokens) for tokens in own], device=model.device)
        longest = int(lengths.max())
        padded = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in own], device=model.device)
        positions = torch.arange(prefix.length, prefix.length + longest, device=model.device).expand(len(own), -1)
        view = PromptView(prefix.layers, length=longest, dtype=model.dtype, device=model.device)
        hidden = model.hidden(padded, positions, view)
        return _Prefilled(view.layers, hidden[torch.arange(len(own), device=model.device), lengths - 1])

    def _rows_that_fit(self, draws: Draws) -> int:
        """The rows that fit into `buffer_bytes`, but at least one question's samples."""
        model = self._model
        token_bytes = 2 * model.layers * model.kv_heads * model.head_size * model.dtype.itemsize
        return max(draws.samples, min(self._rows, self._buffer_bytes // (token_bytes * draws.max_new_tokens)))


def _batches(own: Sequence[Tokens], max_tokens: int) -> Iterator[list[int]]:
    """Prompt numbers in order of length, in batches of at most `max_tokens` padded tokens (or of one prompt)."""
    batch: list[int] = []
    for number in sorted(range(len(own)), key=lambda number: len(own[number])):
        if batch and (len(batch) + 1) * len(own[number]) > max_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
