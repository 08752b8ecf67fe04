"""Attention over keys in three places, so that samples do not each compute or copy the same keys.

    prefix     the tokens with which all prompts begin      one copy for the run
    question   the rest of a prompt                         one copy for all samples of the question
    own        the tokens that a sample has generated       one copy for each sample, in a preallocated buffer

Attention runs over each part alone, then attention.py merges the parts. The functions plug into transformers' attention
interface, so a decoder of ARCHITECTURES runs with its own modelling code.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

from craft.infra.models.architectures import TABLE, EnginePath
from craft_inference.embedded.attention import Attended, KeyValues, attend, grouped, merge, over_prefix

ATTENTION = "craft_shared_prefix"
ARCHITECTURES = frozenset(row.name for row in TABLE if row.engine is EnginePath.SHARED_PREFIX)
"""Decoders with plain causal attention and a bare output head. A test compares each with its own plain forward pass."""


class Grid(NamedTuple):
    """Rows on a grid of slots × samples: the row of each cell (any row for an empty cell), and the cell of each row."""

    rows_of_cells: Tensor
    cells_of_rows: Tensor


class Masks(NamedTuple):
    """Additive masks, 0 or -inf: (slots, 1, 1, length) over questions, (rows, 1, 1, length) over own tokens."""

    questions: Tensor
    own: Tensor


class View(Protocol):
    """The keys to which one forward pass attends besides its own. Tensors are (batch, heads, length, head size)."""

    def attend(self, layer: int, query: Tensor, new: KeyValues) -> Tensor:
        """The attention output, of the query's shape. The query is already scaled."""
        ...


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - always None: the view knows the mask
    **extra: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer. `view` comes through the model's keyword arguments."""
    view: View = extra["view"]
    output = view.attend(module.layer_idx, query * extra["scaling"], KeyValues(key, value))
    return output.transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation=ATTENTION` known to transformers."""
    AttentionInterface.register(ATTENTION, _attention)


class PromptView:
    """Forward pass over whole prompts after the prefix, padded on the right. Attention is causal within a prompt.

    Padding comes after every real token, so causality alone hides it. The view keeps each layer's keys and values.
    """

    def __init__(self, prefix: Sequence[KeyValues] | None, *, length: int, dtype: torch.dtype, device: torch.device):
        self.layers: list[KeyValues] = []
        self._prefix = prefix
        self._causal = torch.full((length, length), -torch.inf, dtype=dtype, device=device).triu(1)
        self._mask = self._causal

    def attend(self, layer: int, query: Tensor, new: KeyValues) -> Tensor:
        """See `View.attend`."""
        kv_heads = new.keys.shape[1]
        rows = grouped(query, kv_heads)
        if len(self._mask) != rows.shape[2]:
            self._mask = self._causal.repeat(rows.shape[2] // len(self._causal), 1)
        parts = [attend(rows, new, self._mask)]
        if self._prefix is not None:
            parts.append(over_prefix(rows, self._prefix[layer]))
        self.layers.append(KeyValues(new.keys, new.values))
        return merge(parts).view(query.shape)


class SampleView:
    """Forward pass of one token for each row, over the prefix, the row's question and the row's own tokens so far.

    `questions` and `own` give a layer's keys by slot and by row. Each row's new key goes to its place in `positions`.
    """

    def __init__(
        self,
        prefix: Sequence[KeyValues] | None,
        questions: Callable[[int], KeyValues],
        own: Callable[[int], KeyValues],
        grid: Grid,
        masks: Masks,
        positions: Tensor,
    ) -> None:
        self._prefix = prefix
        self._questions = questions
        self._own = own
        self._grid = grid
        self._masks = masks
        self._positions = positions
        self._all_rows = torch.arange(len(positions), device=positions.device)

    def attend(self, layer: int, query: Tensor, new: KeyValues) -> Tensor:
        """See `View.attend`."""
        own = self._own(layer)
        own.keys[self._all_rows, :, self._positions] = new.keys[:, :, 0]
        own.values[self._all_rows, :, self._positions] = new.values[:, :, 0]
        rows = grouped(query, new.keys.shape[1])
        parts = [attend(rows, own, self._masks.own), self._over_questions(rows, self._questions(layer))]
        if self._prefix is not None:
            parts.append(over_prefix(rows, self._prefix[layer]))
        return merge(parts).view(query.shape)

    def _over_questions(self, rows: Tensor, questions: KeyValues) -> Attended:
        _, heads, group, size = rows.shape
        slots = len(questions.keys)
        cells = rows.index_select(0, self._grid.rows_of_cells).view(slots, -1, heads, group, size)
        by_slot = cells.transpose(1, 2).reshape(slots, heads, -1, size)
        attended = attend(by_slot, questions, self._masks.questions)
        return Attended(*(self._by_row(part, heads, group) for part in attended))

    def _by_row(self, part: Tensor, heads: int, group: int) -> Tensor:
        slots, _, _, size = part.shape
        cells = part.view(slots, heads, -1, group, size).transpose(1, 2).reshape(-1, heads, group, size)
        return cells.index_select(0, self._grid.cells_of_rows)


def supports(config: Any) -> bool:
    """True if a model of this configuration attends to all earlier tokens in every layer."""
    architectures = config.architectures or [""]
    layer_types = getattr(config, "layer_types", None) or []
    return (
        architectures[0] in ARCHITECTURES
        and not getattr(config, "sliding_window", None)
        and all(kind == "full_attention" for kind in layer_types)
    )
