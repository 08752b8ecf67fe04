"""Decoding with a shared prefix and continuous batching: a finished sample's row is taken by the next question's."""

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

_PREFILL_TOKENS = 4096  # most tokens of questions prefilled at a time


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What all prompts begin with: its keys and values by layer, or nothing of length 0."""

    layers: list[KeyValues] | None
    length: int


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """Questions after their forward pass: each layer's keys and values, and the last token's hidden states."""

    layers: list[KeyValues]
    last: Tensor


class SharedPrefixDecoder:
    """Prefills the shared prefix once a call, each question once, and keeps up to `rows` samples under way.

    `buffer_bytes` bounds the samples' own keys and values: long replies mean fewer rows.
    """

    def __init__(
        self, causal: CausalLM, *, end_tokens: Sequence[int], rows: int, buffer_bytes: int = 4 * 2**30
    ) -> None:
        self._causal = causal
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
        under_way = RunningBatch(
            self._causal, prefix.layers, prefix.length, own, by_length, self._end, self._room(draws)
        )
        while not under_way.finished:
            if questions := under_way.wanted(_PREFILL_TOKENS):
                prefilled = self._prefill([own[place] for place in questions], prefix)
                on_done(under_way.start(questions, prefilled.layers, prefilled.last))
            on_done(under_way.step())
        found = dict(zip(order, under_way.results(), strict=True))
        return Decoded([found[number] for number in range(len(prompts))], prefix.length + sum(map(len, own)))

    @torch.inference_mode()
    def score(self, prompts: Sequence[Tokens], choices: Sequence[Tokens], on_done: OnDone) -> Scored:
        """See `Decoding.score`."""
        prefix, own = self._split(prompts)
        found: list[list[float]] = [[] for _ in prompts]
        for batch in _batches(own, _PREFILL_TOKENS):
            last = self._prefill([own[number] for number in batch], prefix).last
            for place, piece in self._causal.in_pieces(last):
                for number, row in zip(batch[place], self._causal.logprobs(piece), strict=True):
                    found[number] = row[list(choices[number])].tolist()
            on_done(len(batch))
        return Scored(found, prefix.length + sum(map(len, own)))

    def _split(self, prompts: Sequence[Tokens]) -> tuple[_Prefix, list[Tokens]]:
        """The prefix, run through the model, and what is left of each prompt."""
        shared = shared_prefix_length(prompts)
        nothing = _Prefix(None, 0)
        prefix = _Prefix(self._prefill([prompts[0][:shared]], nothing).layers, shared) if shared else nothing
        return prefix, [prompt[shared:] for prompt in prompts]

    def _prefill(self, own: Sequence[Tokens], prefix: _Prefix) -> _Prefilled:
        causal = self._causal
        lengths = torch.tensor([len(tokens) for tokens in own], device=causal.device)
        longest = int(lengths.max())
        padded = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in own], device=causal.device)
        positions = torch.arange(prefix.length, prefix.length + longest, device=causal.device).expand(len(own), -1)
        view = PromptView(prefix.layers, length=longest, dtype=causal.dtype, device=causal.device)
        hidden = causal.hidden(padded, positions, view)
        return _Prefilled(view.layers, hidden[torch.arange(len(own), device=causal.device), lengths - 1])

    def _room(self, draws: Draws) -> int:
        """Rows that fit into the memory set aside, never fewer than one question's samples."""
        causal = self._causal
        token_bytes = 2 * causal.layers * causal.kv_heads * causal.head_size * causal.dtype.itemsize
        return max(draws.samples, min(self._rows, self._buffer_bytes // (token_bytes * draws.max_new_tokens)))


def _batches(own: Sequence[Tokens], most_tokens: int) -> Iterator[list[int]]:
    """Prompt numbers in order of length, cut so that padded batches hold at most `most_tokens` (or one prompt)."""
    batch: list[int] = []
    for number in sorted(range(len(own)), key=lambda number: len(own[number])):
        if batch and (len(batch) + 1) * len(own[number]) > most_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
