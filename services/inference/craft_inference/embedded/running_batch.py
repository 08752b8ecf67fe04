"""The samples under way: which row holds which sample, and one step of all of them.

A question's *slot* holds its keys; its samples are the slot's *cells*; a *row* is a sample that is not finished yet.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from craft_inference.embedded.attention import KeyValues
from craft_inference.embedded.causal_lm import CausalLM
from craft_inference.embedded.decoding import Draws, Tokens
from craft_inference.embedded.kv_cache import KVCache
from craft_inference.embedded.prefix_attention import Grid, Masks, SampleView
from craft_inference.embedded.sampling import draw

_LEAST_FREE = 0.25  # refill when this share of the rows is free: prefilling one question at a time is slow
_OWN_START = 64  # tokens a sample's buffer first has room for; it doubles
_SLOTS_PER_ROWFUL = 2  # a slot is kept until its longest sample ends, so there are more slots than full ones need
Ints = NDArray[np.int64]


class RunningBatch:
    """See the module. `own` are the prompts without their shared prefix of `shared` tokens, in order of length."""

    def __init__(
        self,
        causal: CausalLM,
        prefix: Sequence[KeyValues] | None,
        shared: int,
        own: Sequence[Tokens],
        draws: Draws,
        end_tokens: Ints,
        rows: int,
    ) -> None:
        samples, slots = draws.samples, _SLOTS_PER_ROWFUL * max(1, rows // draws.samples)
        self._causal, self._prefix, self._shared, self._draws, self._end = causal, prefix, shared, draws, end_tokens
        self._own_lengths = np.array([len(tokens) for tokens in own], dtype=np.int64)
        self._capacity = rows
        self._next = 0
        self._said: Ints = np.full((len(own) * samples, draws.max_new_tokens), -1, dtype=np.int64)
        # By slot.
        self._question: Ints = np.zeros(slots, dtype=np.int64)
        self._unfinished: Ints = np.zeros(slots, dtype=np.int64)
        self._uniforms = np.zeros((slots, samples, draws.max_new_tokens))
        self._question_keys = KVCache(causal, places=slots, length=int(self._own_lengths[:slots].max(initial=1)))
        # By row: the cell it belongs to, the tokens it has said, and the last one.
        self._cell: Ints = np.zeros(0, dtype=np.int64)
        self._count: Ints = np.zeros(0, dtype=np.int64)
        self._last: Ints = np.zeros(0, dtype=np.int64)
        self._own_keys = KVCache(causal, places=rows, length=min(_OWN_START, draws.max_new_tokens))
        self._grid: Grid | None = None

    @property
    def finished(self) -> bool:
        """Whether every sample of every question is there."""
        return self._next == len(self._own_lengths) and not len(self._cell)

    def wanted(self, most_tokens: int) -> range:
        """The questions to prefill and `start` now, at most `most_tokens` padded tokens; empty where rows are busy."""
        free_rows = self._capacity - len(self._cell)
        if len(self._cell) and free_rows < self._capacity * _LEAST_FREE:
            return range(0)
        room = min(free_rows // self._draws.samples, int((self._unfinished == 0).sum()))
        end = min(self._next + room, len(self._own_lengths))
        while end - self._next > 1 and (end - self._next) * self._own_lengths[end - 1] > most_tokens:
            end -= 1
        return range(self._next, end)

    def start(self, questions: range, layers: Sequence[KeyValues], last_hidden: Tensor) -> int:
        """Draw the first tokens of prefilled questions and give them rows; how many questions ended there already."""
        samples = self._draws.samples
        slots = np.flatnonzero(self._unfinished == 0)[: len(questions)]
        self._next = questions.stop
        self._question[slots] = questions
        self._unfinished[slots] = samples
        for slot, question in zip(slots, questions, strict=True):
            for sample in range(samples):
                self._uniforms[slot, sample] = self._draws.stream(question, sample)
        self._question_keys.grow(int(self._own_lengths[questions.stop - 1]))
        places = self._tensor(slots)
        for layer, new in enumerate(layers):
            self._question_keys.store(layer, places, new)
        cells = (slots[:, None] * samples + np.arange(samples)).ravel()
        tokens = self._draw(last_hidden.repeat_interleave(samples, dim=0), cells, np.zeros_like(cells))
        self._cell = np.concatenate([self._cell, cells])
        self._count = np.concatenate([self._count, np.zeros_like(cells)])
        self._last = np.concatenate([self._last, np.zeros_like(cells)])
        return self._say(tokens, first=len(self._cell) - len(cells))

    def step(self) -> int:
        """One more token for every row; how many questions are complete by it."""
        if not len(self._cell):
            return 0
        own_positions = self._count - 1
        self._own_keys.grow(int(self._count.max()))
        positions = self._shared + self._own_lengths[self._question[self._cell // self._draws.samples]] + own_positions
        rows, slots = len(self._cell), self._slots_used
        view = SampleView(
            self._prefix,
            lambda layer: self._question_keys.layer(layer, slots),
            lambda layer: self._own_keys.layer(layer, rows),
            self._grid or self._new_grid(slots),
            Masks(
                questions=self._masked(self._own_lengths[self._question[:slots]], self._question_keys.length),
                own=self._masked(self._count, self._own_keys.length),
            ),
            self._tensor(own_positions),
        )
        hidden = self._causal.hidden(self._tensor(self._last)[:, None], self._tensor(positions)[:, None], view)
        return self._say(self._draw(hidden[:, 0], self._cell, self._count), first=0)

    def results(self) -> list[list[list[int]]]:
        """The tokens said, by question and sample."""
        rows = [[token for token in said.tolist() if token >= 0] for said in self._said]
        return [rows[at : at + self._draws.samples] for at in range(0, len(rows), self._draws.samples)]

    @property
    def _slots_used(self) -> int:
        return int(np.flatnonzero(self._unfinished)[-1]) + 1

    def _draw(self, hidden: Tensor, cells: Ints, counts: Ints) -> Ints:
        """A token for each row of hidden states, by the row's own stream."""
        samples = self._draws.samples
        uniforms = torch.from_numpy(self._uniforms[cells // samples, cells % samples, counts]).to(hidden.device)
        drawn = [
            draw(
                self._causal.logits(piece),
                uniforms[place],
                temperature=self._draws.temperature,
                top_p=self._draws.top_p,
            )
            for place, piece in self._causal.in_pieces(hidden)
        ]
        tokens: Ints = torch.cat(drawn).cpu().numpy()
        return tokens

    def _say(self, tokens: Ints, *, first: int) -> int:
        """Record the new tokens of the rows from `first` on and let finished rows leave."""
        samples, rows = self._draws.samples, slice(first, None)
        keys = self._question[self._cell[rows] // samples] * samples + self._cell[rows] % samples
        self._said[keys, self._count[rows]] = tokens
        self._last[rows] = tokens
        self._count[rows] += 1
        over = np.zeros(len(self._cell), dtype=np.bool_)
        over[rows] = np.isin(tokens, self._end) | (self._count[rows] == self._draws.max_new_tokens)
        self._grid = self._grid if first == 0 and not over.any() else None
        if not over.any():
            return 0
        slots, ended = np.unique(self._cell[over] // samples, return_counts=True)
        self._unfinished[slots] -= ended
        self._leave(over)
        return int((self._unfinished[slots] == 0).sum())

    def _leave(self, over: NDArray[np.bool_]) -> None:
        """Keep rows dense: the last unfinished ones move into the holes before them."""
        left = len(over) - int(over.sum())
        holes = np.flatnonzero(over[:left])
        movers = left + np.flatnonzero(~over[left:])
        if len(holes):
            self._own_keys.move(self._tensor(movers), self._tensor(holes))
        for name in ("_cell", "_count", "_last"):
            values = getattr(self, name)
            values[holes] = values[movers]
            setattr(self, name, values[:left].copy())

    def _new_grid(self, slots: int) -> Grid:
        rows = np.zeros(slots * self._draws.samples, dtype=np.int64)
        rows[self._cell] = np.arange(len(self._cell))
        self._grid = Grid(rows_of_cells=self._tensor(rows), cells_of_rows=self._tensor(self._cell))
        return self._grid

    def _masked(self, lengths: Ints, most: int) -> Tensor:
        """Additive (places, 1, 1, most): -inf from each place's length on."""
        behind = torch.arange(most, device=self._causal.device) >= self._tensor(lengths)[:, None]
        mask = torch.zeros(behind.shape, dtype=self._causal.dtype, device=self._causal.device)
        return mask.masked_fill_(behind, -torch.inf)[:, None, None, :]

    def _tensor(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self._causal.device)
