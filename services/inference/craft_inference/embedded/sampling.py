"""Draws tokens: a random stream for each sample, and inverse-transform sampling that reads each logit once."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)


def uniforms(seed: int, prompt_id: str, sample: int, count: int) -> NDArray[np.float64]:
    """The first `count` draws in [0, 1) of one sample's stream. Counter-based: the order of work has no effect."""
    digest = hashlib.blake2b(f"{seed}\0{sample}\0{prompt_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).random(count)


def draw(logits: Tensor, uniform: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """One token id for each row: logits (rows, vocabulary) of any float type, uniform (rows,) float64 in [0, 1).

    Temperature 0 takes the largest logit (the first of equals). Otherwise the token is the row's inverse distribution
    function at its uniform number, over the smallest set of tokens with probability `top_p`.
    """
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    if temperature != 1.0:
        logits = logits.float() / temperature
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
    if top_p < 1.0:
        probabilities = _nucleus(probabilities, top_p)
    return _inverse(probabilities, uniform)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Set all but the likeliest tokens that together reach `top_p` to zero. The rest is not renormalised."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered.masked_fill_(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter_(-1, order, ordered)


def _inverse(weights: Tensor, uniform: Tensor) -> Tensor:
    """The index whose cumulated weight first exceeds uniform × total.

    A cumulated sum over a whole vocabulary costs more than the soft-max itself. The search therefore has two levels:
    first over sums of blocks, then inside the block that was hit.
    """
    rows, vocabulary = weights.shape
    size = next(size for size in _BLOCKS if vocabulary % size == 0)
    blocks = weights.view(rows, vocabulary // size, size)
    block, rest = _hit(blocks.sum(dim=-1), uniform)
    inside = blocks[torch.arange(rows, device=weights.device), block]
    return block * size + _hit(inside, rest)[0]


def _hit(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """(index, position inside that index's weight as a share of it) for shares in [0, 1) of the row's total."""
    cumulated = weights.double().cumsum(dim=-1)
    # Rounding may lift share × total to the total itself, which would point behind the last weight.
    aim = torch.minimum(
        share[:, None] * cumulated[:, -1:], cumulated[:, -1:].nextafter(torch.zeros_like(share)[:, None])
    )
    index = torch.searchsorted(cumulated, aim, right=True)
    own = weights.gather(-1, index).double()
    left = aim - (cumulated.gather(-1, index) - own)
    return index[:, 0], (left / own).clamp(0.0, 1.0)[:, 0]
