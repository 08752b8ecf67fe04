"""The batch of running samples: it knows which sample is in which row, and runs one step of all rows.

A question's keys are in its *slot*; its samples are the slot's *cells*; a *row* is a sample that is not finished yet.
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

_MIN_FREE = 0.25  # refill when this share of the rows is free, because prefilling one question at a time is slow
_OWN_START = 64  # the tokens for which a sample's buffer first has space; it doubles
_SLOTS_PER_ROWFUL = 2  # more slots than full ones would need, because a slot is occupied until its longest sample ends
Ints = NDArray[np.int64]


class RunningBatch:
    """See the module. `own` has the prompts without their shared prefix of `shared` tokens, in order of length."""

    def __init__(
        self,
        model: CausalLM,
        prefix: Sequence[KeyValues] | None,
        shared: int,
        own: Sequence[Tokens],
        draws: Draws,
        end_tokens: Ints,
        rows: int,
    ) -> None:
        samples, slots = draws.samples, _SLOTS_PER_ROWFUL * max(1, rows // draws.samples)
        self._model, self._prefix, self._shared, self._draws, self._end = model, prefix, shared, draws, end_tokens
        self._own_lengths = np.array([len(tokens) for tokens in own], dtype=np.int64)
        self._capacity = rows
        self._next = 0
        self._generated: Ints = np.full((len(own) * samples, draws.max_new_tokens), -1, dtype=np.int64)
        # By slot.
        self._question: Ints = np.zeros(slots, dtype=np.int64)
        self._unfinished: Ints = np.zeros(slots, dtype=np.int64)
        self._uniforms = np.zeros((slots, samples, draws.max_new_tokens))
        self._question_keys = KVCache(model, places=slots, length=int(self._own_lengths[:slots].max(initial=1)))
        # By row: its cell, the number of tokens that it has generated, and the last of them.
        self._cell: Ints = np.zeros(0, dtype=np.int64)
        self._count: Ints = np.zeros(0, dtype=np.int64)
        self._last: Ints = np.zeros(0, dtype=np.int64)
        self._own_keys = KVCache(model, places=rows, length=min(_OWN_START, draws.max_new_tokens))
        self._grid: Grid | None = None

    @property
    def finished(self) -> bool:
        """True when every sample of every question is finished."""
        return self._next == len(self._own_lengths) and not len(self._cell)

    def next_questions(self, max_tokens: int) -> range:
        """The questions to prefill and `start` now, at most `max_tokens` padded tokens; none while most rows run."""
        free_rows = self._capacity - len(self._cell)
        if len(self._cell) and free_rows < self._capacity * _MIN_FREE:
            return range(0)
        free = min(free_rows // self._draws.samples, int((self._unfinished == 0).sum()))
        end = min(self._next + free, len(self._own_lengths))
        while end - self._next > 1 and (end - self._next) * self._own_lengths[end - 1] > max_tokens:
            end -= 1
        return range(self._next, end)

    def start(self, questions: range, layers: Sequence[KeyValues], last_hidden: Tensor) -> int:
        """Give rows to prefilled questions and draw their first tokens. Returns the number of questions that ended."""
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
        return self._record(tokens, first=len(self._cell) - len(cells))

    def step(self) -> int:
        """Draw one more token for every row. Returns the number of questions that ended."""
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
        hidden = self._model.hidden(self._tensor(self._last)[:, None], self._tensor(positions)[:, None], view)
        return self._record(self._draw(hidden[:, 0], self._cell, self._count), first=0)

    def results(self) -> list[list[list[int]]]:
        """The generated tokens by question and sample."""
        rows = [[token for token in row.tolist() if token >= 0] for row in self._generated]
        return [rows[at : at + self._draws.samples] for at in range(0, len(rows), self._draws.samples)]

    @property
    def _slots_used(self) -> int:
        return int(np.flatnonzero(self._unfinished)[-1]) + 1

    def _draw(self, hidden: Tensor, cells: Ints, counts: Ints) -> Ints:
        """A token for each row of hidden states, drawn from the row's own stream."""
        samples = self._draws.samples
        uniforms = torch.from_numpy(self._uniforms[cells // samples, cells % samples, counts]).to(hidden.device)
        drawn = [
            draw(
                self._model.logits(piece),
                uniforms[place],
                temperature=self._draws.temperature,
                top_p=self._draws.top_p,
            )
            for place, piece in self._model.in_pieces(hidden)
        ]
        tokens: Ints = torch.cat(drawn).cpu().numpy()
        return tokens

    def _record(self, tokens: Ints, *, first: int) -> int:
        """Record the new tokens of the rows from `first` on and remove finished rows.

        Returns the number of questions that ended.
        """
        samples, rows = self._draws.samples, slice(first, None)
        keys = self._question[self._cell[rows] // samples] * samples + self._cell[rows] % samples
        self._generated[keys, self._count[rows]] = tokens
        self._last[rows] = tokens
        self._count[rows] += 1
        finished = np.zeros(len(self._cell), dtype=np.bool_)
        finished[rows] = np.isin(tokens, self._end) | (self._count[rows] == self._draws.max_new_tokens)
        self._grid = self._grid if first == 0 and not finished.any() else None
        if not finished.any():
            return 0
        slots, ended = np.unique(self._cell[finished] // samples, return_counts=True)
        self._unfinished[slots] -= ended
        self._remove(finished)
        return int((self._unfinished[slots] == 0).sum())

    def _remove(self, finished: NDArray[np.bool_]) -> None:
        """Remove finished rows and keep the rest dense: the last unfinished rows move into the holes before them."""
        left = len(finished) - int(finished.sum())
        holes = np.flatnonzero(finished[:left])
        movers = left + np.flatnonzero(~finished[left:])
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
        """An additive mask (places, 1, 1, most): -inf from each place's length on."""
        behind = torch.arange(most, device=self._model.device) >= self._tensor(lengths)[:, None]
        mask = torch.zeros(behind.shape, dtype=self._model.dtype, device=self._model.device)
        return mask.masked_fill_(behind, -torch.inf)[:, None, None, :]

    def _tensor(self, values: Ints) -> Tensor:
        return torch.from_numpy(values).to(self._model.device)
