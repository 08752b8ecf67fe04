"""Preallocated keys and values of many sequences, growing by doubling so that no step copies what is there."""

import torch
from torch import Tensor

from craft_inference.embedded.attention import KeyValues
from craft_inference.embedded.causal_lm import CausalLM


class KVCache:
    """(layers, keys and values, places, key-value heads, length, head size) on the model's device, zero at first.

    Zero and not empty: what lies behind a sequence's end is masked, but a NaN there would survive its weight of zero.
    """

    def __init__(self, causal: CausalLM, *, places: int, length: int) -> None:
        self._all = torch.zeros(
            (causal.layers, 2, places, causal.kv_heads, length, causal.head_size),
            dtype=causal.dtype,
            device=causal.device,
        )

    @property
    def length(self) -> int:
        """Tokens there is room for in each place."""
        return self._all.shape[4]

    def layer(self, layer: int, places: int) -> KeyValues:
        """The first `places` places of one layer; a view."""
        return KeyValues(self._all[layer, 0, :places], self._all[layer, 1, :places])

    def grow(self, length: int) -> None:
        """Make room for `length` tokens, at least doubling; nothing where there is."""
        if length <= self.length:
            return
        old = self._all
        shape = list(old.shape)
        shape[4] = max(length, 2 * self.length)
        self._all = torch.zeros(shape, dtype=old.dtype, device=old.device)
        self._all[:, :, :, :, : old.shape[4]] = old

    def store(self, layer: int, places: Tensor, new: KeyValues) -> None:
        """Put whole sequences (batch, heads, length, size) at `places`, from their first token on."""
        length = new.keys.shape[2]
        self._all[layer, 0, places, :, :length] = new.keys
        self._all[layer, 1, places, :, :length] = new.values

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy sequences from place to place; the two sets do not overlap."""
        self._all[:, :, targets] = self._all[:, :, sources]
