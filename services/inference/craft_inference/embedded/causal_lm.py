"""The two halves of a causal language model: tokens to hidden states, hidden states to logits."""

from typing import Any

import torch
from torch import Tensor, nn

from craft_inference.embedded.prefix_attention import View

_ROWS = 64  # rows of logits at a time: 64 × 50,000 in float32 stay in the cache of a server CPU
_VOCABULARY = 32_768  # output rows converted to float32 at a time


class CausalLM:
    """A transformers decoder that was loaded with our attention. It fits the architectures of prefix_attention.py."""

    def __init__(self, model: Any) -> None:
        self._body = model.get_decoder()
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise TypeError(f"the output head is a {type(head).__name__}, not linear")
        self._head = head
        self.dtype: torch.dtype = head.weight.dtype
        self.device: torch.device = head.weight.device
        config = model.config
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def hidden(self, tokens: Tensor, positions: Tensor, view: View) -> Tensor:
        """The last hidden states (batch, length, size) of tokens (batch, length) at the given positions."""
        output = self._body(input_ids=tokens, position_ids=positions, use_cache=False, view=view)
        states: Tensor = output.last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits (rows, vocabulary) of hidden states (rows, size), in the model's own type."""
        result: Tensor = self._head(hidden)
        return result

    @staticmethod
    def in_pieces(hidden: Tensor) -> list[tuple[slice, Tensor]]:
        """`hidden` in pieces whose logits stay in the processor's cache, each with its slice."""
        return [(slice(at, at + _ROWS), hidden[at : at + _ROWS]) for at in range(0, len(hidden), _ROWS)]

    def logprobs(self, hidden: Tensor) -> Tensor:
        """The log-probabilities (rows, vocabulary), with the product and the soft-max in float32.

        In bf16 a logit of 16 has steps of 0.125, so different letters would tie.
        """
        return torch.log_softmax(in_float32(self._head, hidden), dim=-1)


def in_float32(head: nn.Linear, hidden: Tensor) -> Tensor:
    """The product of a head of any type with hidden states (…, size), in float32."""
    states, weight, bias = hidden.float(), head.weight, head.bias
    pieces = [
        nn.functional.linear(
            states,
            weight[at : at + _VOCABULARY].float(),
            None if bias is None else bias[at : at + _VOCABULARY].float(),
        )
        for at in range(0, len(weight), _VOCABULARY)
    ]
    return torch.cat(pieces, dim=-1)
