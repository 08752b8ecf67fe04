"""Preallocated keys and values of many sequences. The cache doubles when it is full, so that steps need not copy it."""

import torch
from torch import Tensor

from craft_inference.embedded.attention import KeyValues
from craft_inference.embedded.causal_lm import CausalLM


class KVCache:
    """One tensor (layers, keys and values, places, key-value heads, length, head size) on the model's device.

    It begins as zeros. Values behind a sequence's end are masked, but a NaN there would survive its weight of zero.
    """

    def __init__(self, model: CausalLM, *, places: int, length: int) -> None:
        self._all = torch.zeros(
            (model.layers, 2, places, model.kv_heads, length, model.head_size),
            dtype=model.dtype,
            device=model.device,
        )

    @property
    def length(self) -> int:
        """The number of tokens that each place can take."""
        return self._all.shape[4]

    def layer(self, layer: int, places: int) -> KeyValues:
        """The first `places` places of one layer, as a view."""
        return KeyValues(self._all[layer, 0, :places], self._all[layer, 1, :places])

    def grow(self, length: int) -> None:
        """Make place for `length` tokens, at least doubling the length. A cache that is long enough stays as it is."""
        if length <= self.length:
            return
        old = self._all
        shape = list(old.shape)
        shape[4] = max(length, 2 * self.length)
        self._all = torch.zeros(shape, dtype=old.dtype, device=old.device)
        self._all[:, :, :, :, : old.shape[4]] = old

    def store(self, layer: int, places: Tensor, new: KeyValues) -> None:
        """Write whole sequences (batch, heads, length, size) to `places`, from their first token on."""
        length = new.keys.shape[2]
        self._all[layer, 0, places, :, :length] = new.keys
        self._all[layer, 1, places, :, :length] = new.values

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy sequences from `sources` to `targets`; the two sets must not overlap."""
        self._all[:, :, targets] = self._all[:, :, sources]
