"""The memory that LoRA tuning takes, from a model's shapes: weights, adapter, and one forward and backward pass.

The terms of a pass are those that autograd keeps, counted with `torch.autograd.graph.saved_tensors_hooks`, and the peak
above them, from the allocator's own record of passes of small models with many shapes. With w bytes a weight (2 in
bfloat16, 4 in float32), q the width of attention, i that of the feed-forward layer and d bytes of a dropout mask's
element (1 by CUDA's kernel, 4 on CPU), a token keeps in each layer
- 4 for each number that a norm reads (it computes in float32),
- w + d for each input and w for each rank of an adapted matrix,
- 4 w q for query, key, value and result (keys and values as wide as queries, because a mask forbids sharing),
- 3 w i for a gated feed-forward layer, w i for a plain one.
Attention without a kernel of torch's, which soft caps need, keeps scores of each pair of tokens besides.
"""

import re
from dataclasses import dataclass
from typing import Literal

from craft.contracts.spec.jobs import Quantization, TrainingSettings
from craft.infra.models.shape import ModelShape, is_attention

MAX_TOKENS_PER_PASS = 4096
"""The limit of one forward pass; an optimiser step with more tokens takes several. More are not faster."""

Device = Literal["cpu", "cuda"]

SURE_SHARE = 0.8
"""Of an estimate: less a pass does not take. What exceeds a device even so does not fit."""
_LONGEST = 2**20
_ADAM_BYTES = 16
"""Of a LoRA weight: itself, its gradient and two moments, in float32."""
_LOGIT_BYTES = 12
"""Of a logit: itself twice, in float32, and its logarithm."""
_NF4_BYTES = 0.52
"""Of a weight in 4 bits, with the scales of its block, which are quantized too."""
_MASK_BYTES: dict[Device, int] = {"cpu": 4, "cuda": 1}
_BACKWARD: dict[int, tuple[int, int]] = {2: (3, 12), 4: (8, 8)}
"""Gradients that live at once in a layer's backward pass: bytes for each hidden unit and feed-forward unit, by w."""
_SCORES: dict[int, tuple[int, int]] = {2: (9, 6), 4: (13, 9)}
"""Bytes of a head's score that a layer keeps, and those at once in its backward pass, by w."""
_RECOMPUTED_INPUT = 6
"""Bytes for each hidden unit beside a layer that is computed again."""
_EXPERTS_PER_TOKEN = 8
_LAYER = re.compile(r"\.(\d+)\.")
_ATTENTION_OUTPUTS = frozenset({"o_proj", "out_proj", "dense", "c_proj", "wo"})


@dataclass(frozen=True, slots=True)
class PassSize:
    """One pass: `tokens` in all sequences with padding, `logits` the places that get logits.

    `pairs` are the numbers of its attention mask. A padded batch's is kept in each layer, a packed one's once.
    """

    tokens: int
    logits: int
    pairs: int = 0
    in_each_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """The bytes of a run.

    `weights` and `adapter`, with its gradients and the optimiser's moments, are there all the time. The others are for
    a token of a pass, or a logit: `kept` in all layers, `layer` in one, `inputs` of all layers (what checkpointing
    keeps), and `backward` for the gradients of one layer. `scores` are kept for a pair of tokens in each layer, and
    `scores_backward` are there for the gradients of one.
    """

    weights: int
    adapter: int
    layers: int
    weight_bytes: int
    kept: float
    layer: float
    inputs: float
    backward: float
    logit: float
    scores: int
    scores_backward: int

    def pass_bytes(self, size: PassSize, *, checkpointed: bool = False) -> int:
        """The peak of a pass above what is there all the time: what is kept, and the largest of what comes and goes."""
        again = size.tokens * self.layer if checkpointed else 0.0
        kept_layers = 1 if checkpointed else self.layers
        masks = 1 + self.weight_bytes * (kept_layers if size.in_each_layer else 1)
        kept = size.tokens * (self.inputs if checkpointed else self.kept)
        kept += size.pairs * (masks + self.scores * kept_layers)
        gradients = max(size.tokens * self.backward, size.pairs * self.scores_backward)
        # Logits are gone when the layers' gradients are computed.
        return round(kept + max(again + gradients, size.logits * self.logit))


def training_memory(
    shape: ModelShape, settings: TrainingSettings, *, weight_bytes: int, device: Device = "cuda"
) -> TrainingMemory:
    """The memory of tuning a model. `weight_bytes` is 2 for bfloat16 and 4 for float32."""
    widths = _widths(shape)
    mask = _MASK_BYTES[device] if settings.lora_dropout else 0
    adapted = sum(
        share * (inputs * (weight_bytes + mask) + settings.lora_r * weight_bytes)
        for name, (_, inputs), share in _passed(shape)
        if shape.is_adapted(name, settings)
    )
    kept = adapted + 4 * widths.norms + 4 * weight_bytes * widths.attention + weight_bytes * widths.feed_forward
    per_hidden, per_inner = _BACKWARD[weight_bytes]
    lora = shape.lora_parameters(settings)
    # Autocast keeps a bfloat16 copy of LoRA's weights.
    copies = lora * weight_bytes if weight_bytes == 2 else 0
    return TrainingMemory(
        weights=_weights(shape, settings, weight_bytes),
        adapter=_ADAM_BYTES * lora + copies,
        layers=shape.layers,
        weight_bytes=weight_bytes,
        kept=kept,
        layer=kept / shape.layers + _RECOMPUTED_INPUT * shape.hidden,
        inputs=weight_bytes * shape.hidden * shape.layers,
        backward=per_hidden * shape.hidden + per_inner * widths.inner,
        logit=_LOGIT_BYTES * shape.vocabulary,
        scores=shape.score_heads * _SCORES[weight_bytes][0],
        scores_backward=shape.score_heads * _SCORES[weight_bytes][1],
    )


def training_bytes(
    shape: ModelShape,
    settings: TrainingSettings,
    *,
    rows: int,
    tokens_per_row: int,
    answer_tokens_per_row: int,
    weight_bytes: int,
    device: Device = "cuda",
    checkpointed: bool = False,
) -> int:
    """Peak memory of tuning on a batch of `rows` alike: weights, adapter and the largest pass.

    Rows that begin alike share these tokens and take less.
    """
    at_once = max(1, min(rows, settings.batch_size, MAX_TOKENS_PER_PASS // tokens_per_row))
    memory = training_memory(shape, settings, weight_bytes=weight_bytes, device=device)
    tokens = at_once * tokens_per_row
    size = PassSize(tokens=tokens, logits=at_once * answer_tokens_per_row, pairs=tokens**2)
    return memory.weights + memory.adapter + memory.pass_bytes(size, checkpointed=checkpointed)


def _weights(shape: ModelShape, settings: TrainingSettings, weight_bytes: int) -> int:
    """The bytes of all weights. A matrix in 4 bits is unpacked while it multiplies: there is room for the largest."""
    if settings.quantization is Quantization.NONE:
        return weight_bytes * shape.parameters
    largest = max((outputs * inputs for outputs, inputs in shape.matrices.values()), default=0)
    whole = shape.parameters - shape.layer_parameters + largest
    return round(weight_bytes * whole + _NF4_BYTES * shape.layer_parameters)


def longest_row(memory: TrainingMemory, *, device_bytes: int) -> int:
    """The tokens of the longest row that may fit into a device with nothing else on it; 0 if none does.

    With gradient checkpointing, and in the estimate's favour: a longer row surely does not fit.
    """
    room = device_bytes - memory.weights - memory.adapter
    fits, above = 0, _LONGEST
    while above - fits > 1:
        tokens = (fits + above) // 2
        size = PassSize(tokens=tokens, logits=1, pairs=tokens**2)
        if SURE_SHARE * memory.pass_bytes(size, checkpointed=True) <= room:
            fits = tokens
        else:
            above = tokens
    return fits


@dataclass(frozen=True, slots=True)
class _Widths:
    """`norms`, `attention` and `feed_forward` are sums over all layers of the numbers that a token has there.

    `feed_forward` counts what its activation function keeps; `inner` is the width of one such layer.
    """

    norms: int
    attention: int
    feed_forward: float
    inner: float


def _widths(shape: ModelShape) -> _Widths:
    attention, written, read = 0, 0.0, 0.0
    for name, (outputs, inputs), share in _passed(shape):
        last = name.removesuffix(".weight").rpartition(".")[2]
        if is_attention(name):
            attention += inputs if last in _ATTENTION_OUTPUTS else 0
        elif outputs == shape.hidden:
            read += share * inputs
        else:
            written += share * outputs
    attention = attention or shape.layers * shape.hidden
    # Where a layer writes twice what it then reads, the halves are multiplied: both and the activated half are kept.
    read = read or 4.0 * shape.layers * shape.hidden
    gated = written > read
    return _Widths(
        norms=_norms(shape, attention // shape.layers),
        attention=attention,
        feed_forward=3 * read if gated else read,
        inner=read / shape.layers,
    )


def _norms(shape: ModelShape, attention: int) -> int:
    """The numbers of a token that norms read, in all layers. A head's norm reads all heads."""
    read = 0
    for name, width in shape.vectors.items():
        if _LAYER.search(name) and "norm" in name and name.endswith(".weight"):
            read += attention if "q_norm" in name or "k_norm" in name else width
    return read or 2 * shape.layers * shape.hidden


def _passed(shape: ModelShape) -> list[tuple[str, tuple[int, int], float]]:
    """The layers' matrices, each with the share of tokens that pass through it: a mixture's experts see some."""
    experts = {name for name in shape.matrices if ".experts." in name}
    each = len({name.partition(".experts.")[2].split(".", 1)[0] for name in experts})
    share = min(1.0, _EXPERTS_PER_TOKEN / each) if each else 1.0
    return [
        (name, sizes, share if name in experts else 1.0)
        for name, sizes in shape.matrices.items()
        if _LAYER.search(name)
    ]
