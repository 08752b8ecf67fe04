"""Turns samples into tensors: many samples in one sequence that cannot see one another, or a plain padded batch.

A packed sequence has the tokens with which all its samples begin once, and then the rest of each sample. A block mask
lets a token attend to the shared beginning and to its own sample, and position ids restart. So losses and gradients
are those of the plain batch, but the shared tokens are computed once (and get one dropout mask instead of many).
"""

from collections.abc import Callable, Sequence
from typing import TypedDict

import torch

from craft.infra.models.architectures import TABLE, TrainingPath
from craft.infra.models.training_memory import PassSize
from craft_training.tuning.samples import Sample

PACKED_MODEL_TYPES = frozenset(row.model_type for row in TABLE if row.training is TrainingPath.PACKED)
"""Architectures whose attention is a plain softmax over all earlier tokens, so that a block mask is exact."""


class Batch(TypedDict):
    """The tensors of one forward pass: B sequences of L tokens, K places with logits, N learned tokens.

    `input_ids` and `position_ids`: (B, L). `attention_mask`: (B, L), or (1, 1, L, L) with True if a row may attend
    to a column. `keep`: (K,), the places along L whose logits are computed. For each learned token, (N,): `rows` is its
    sequence, `columns` the index in `keep` of the place that predicts it, and `targets` the token itself.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    keep: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor


def may_pack(config: object) -> bool:
    """True if packing is safe for a model's transformers configuration."""
    kind, window = getattr(config, "model_type", ""), getattr(config, "sliding_window", None)
    sliding = window is not None and getattr(config, "use_sliding_window", True)
    return kind in PACKED_MODEL_TYPES and not sliding


def batches_of(samples: Sequence[Sample], *, packed: bool, max_tokens: int) -> list[Batch]:
    """The samples as one batch, or as several where one would have more than `max_tokens` tokens."""
    groups = groups_of(samples, lambda group: size_of(group, packed=packed).tokens <= max_tokens)
    return [pack(group) if packed else pad(group) for group in groups]


def groups_of(samples: Sequence[Sample], fits: Callable[[Sequence[Sample]], bool]) -> list[list[Sample]]:
    """The samples in their order, cut where a group would not fit. One sample is a group even where it does not."""
    groups: list[list[Sample]] = [[]]
    for sample in samples:
        grown = [*groups[-1], sample]
        if groups[-1] and not fits(grown):
            groups.append([sample])
        else:
            groups[-1] = grown
    return groups


def size_of(samples: Sequence[Sample], *, packed: bool) -> PassSize:
    """The size of the samples' batch."""
    if packed:
        tokens = _packed_length(samples)
        return PassSize(tokens=tokens, logits=sum(map(_learned, samples)), pairs=tokens**2)
    longest, first = max(len(sample.tokens) for sample in samples), min(sample.prompt_length for sample in samples)
    return PassSize(
        tokens=len(samples) * longest,
        # `pad` asks for the logits of a place in all of its sequences.
        logits=len(samples) * (longest - first),
        pairs=len(samples) * longest**2,
        in_each_layer=True,
    )


def shared_prefix(samples: Sequence[Sample]) -> int:
    """The number of tokens with which all samples begin, without a last prompt token: each sample needs its logits."""
    longest = min(sample.prompt_length for sample in samples) - 1
    first, last = min(s.tokens for s in samples), max(s.tokens for s in samples)
    # In dictionary order all other samples lie between these two, so they share the same beginning.
    for place in range(longest):
        if first[place] != last[place]:
            return place
    return longest


def pack(samples: Sequence[Sample]) -> Batch:
    """One sequence of the samples' shared beginning and the rest of each sample."""
    prefix = shared_prefix(samples)
    tokens = list(samples[0].tokens[:prefix])
    positions, owners = list(range(prefix)), [-1] * prefix
    keep: list[int] = []
    targets: list[int] = []
    for owner, sample in enumerate(samples):
        shift = len(tokens) - prefix
        keep += range(shift + sample.prompt_length - 1, shift + len(sample.tokens) - 1)
        targets += sample.tokens[sample.prompt_length :]
        tokens += sample.tokens[prefix:]
        positions += range(prefix, len(sample.tokens))
        owners += [owner] * (len(sample.tokens) - prefix)
    return Batch(
        input_ids=torch.tensor([tokens]),
        attention_mask=_block_mask(torch.tensor(owners)),
        position_ids=torch.tensor([positions]),
        keep=torch.tensor(keep),
        rows=torch.zeros(len(keep), dtype=torch.long),
        columns=torch.arange(len(keep)),
        targets=torch.tensor(targets),
    )


def pad(samples: Sequence[Sample]) -> Batch:
    """One sequence for each sample, padded on the right, for architectures that `may_pack` refuses."""
    longest = max(len(sample.tokens) for sample in samples)
    places = [
        (row, place)
        for row, sample in enumerate(samples)
        for place in range(sample.prompt_length - 1, len(sample.tokens) - 1)
    ]
    keep = sorted({place for _, place in places})
    column = {place: index for index, place in enumerate(keep)}
    return Batch(
        input_ids=torch.tensor([[*s.tokens, *[0] * (longest - len(s.tokens))] for s in samples]),
        attention_mask=torch.tensor([[place < len(s.tokens) for place in range(longest)] for s in samples]).long(),
        position_ids=torch.arange(longest).expand(len(samples), -1).contiguous(),
        keep=torch.tensor(keep),
        rows=torch.tensor([row for row, _ in places]),
        columns=torch.tensor([column[place] for _, place in places]),
        targets=torch.tensor([samples[row].tokens[place + 1] for row, place in places]),
    )


def _learned(sample: Sample) -> int:
    return len(sample.tokens) - sample.prompt_length


def _packed_length(samples: Sequence[Sample]) -> int:
    prefix = shared_prefix(samples)
    return prefix + sum(len(sample.tokens) - prefix for sample in samples)


def _block_mask(owners: torch.Tensor) -> torch.Tensor:
    """(1, 1, L, L), True if the key is not later than the query and is shared or of the query's sample."""
    visible = (owners[None, :] == owners[:, None]) | (owners[None, :] == -1)
    return visible.tril()[None, None]
