"""The tensors that an architecture's checkpoint has, by name and shape, as a pure function of its config.json.

transformers initialises a tensor that a checkpoint lacks at random, and leaves one out that it does not know: both give
another model, without an error. The names are those of the files; loading may join some (a mixture's experts).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from craft.infra.models.model_config import ModelConfig

Shape = tuple[int, ...]
Layout = Callable[[ModelConfig], dict[str, Shape]]
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


class QueryKeyNorm(StrEnum):
    """The normalisation of queries and keys: none, one for all heads, one over their whole width, or one a head."""

    NONE = "none"
    SHARED = "shared"
    WHOLE = "whole"
    BY_HEAD = "by head"
    LISTED = "listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The parts of a decoder's layers. `norms` are their normalisations; the final one is of the same kind."""

    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm_bias: bool = False
    query_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    query_key_norm: QueryKeyNorm = QueryKeyNorm.NONE
    fused: bool = False
    """Queries, keys and values are one matrix, and so are gate and up."""
    gated: bool = True
    """The feed-forward part has a gate; without one it is c_fc and c_proj."""
    tied: bool = False
    """The output head is the embedding where config.json does not say."""
    head_dim: int | None = None
    """The head size where config.json does not say; None: the hidden size by the number of heads."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int

    @classmethod
    def of(cls, config: ModelConfig, block: Block) -> "_Sizes":
        hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
        return cls(
            hidden=hidden,
            inner=config.number("intermediate_size"),
            heads=heads,
            kv_heads=config.number("num_key_value_heads", heads),
            head=config.number("head_dim", block.head_dim or hidden // heads),
            vocabulary=config.number("vocab_size"),
        )


def decoder(config: ModelConfig, block: Block) -> dict[str, Shape]:
    """The tensors of a decoder whose layers are alike."""
    sizes = _Sizes.of(config, block)
    return _body(config, block, sizes) | {
        f"model.layers.{layer}.{name}": shape
        for layer in range(config.number("num_hidden_layers"))
        for part in (_attention(block, sizes), _feed_forward(block, sizes, sizes.inner))
        for name, shape in part
    }


def _body(config: ModelConfig, block: Block, sizes: _Sizes) -> dict[str, Shape]:
    names = {EMBEDDING: (sizes.vocabulary, sizes.hidden), **dict(_norm("model.norm", sizes.hidden, block))}
    if not config.flag("tie_word_embeddings", default=block.tied):
        names[HEAD] = (sizes.vocabulary, sizes.hidden)
    return names


def _norm(name: str, size: int, block: Block) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (size,)
    if block.norm_bias:
        yield f"{name}.bias", (size,)


def _linear(name: str, outputs: int, inputs: int, *, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _attention(block: Block, sizes: _Sizes) -> Iterator[tuple[str, Shape]]:
    """The attention of one layer, and the layer's normalisations."""
    for name in block.norms:
        yield from _norm(name, sizes.hidden, block)
    query, key = sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    outputs = {"qkv_proj": query + 2 * key} if block.fused else {"q_proj": query, "k_proj": key, "v_proj": key}
    for name, size in outputs.items():
        yield from _linear(f"self_attn.{name}", size, sizes.hidden, bias=block.query_bias)
    yield from _linear("self_attn.o_proj", sizes.hidden, query, bias=block.output_bias)
    for name, heads in (("q", sizes.heads), ("k", sizes.kv_heads)):
        match block.query_key_norm:
            case QueryKeyNorm.SHARED:
                yield f"self_attn.{name}_norm.weight", (sizes.head,)
            case QueryKeyNorm.WHOLE:
                yield f"self_attn.{name}_norm.weight", (heads * sizes.head,)
            case QueryKeyNorm.BY_HEAD:
                yield f"self_attn.{name}_norm.weight", (heads, sizes.head)
            case QueryKeyNorm.LISTED:
                for head in range(heads):
                    yield f"self_attn.{name}_layernorm.norms.{head}.weight", (sizes.head,)


def _feed_forward(block: Block, sizes: _Sizes, inner: int, *, name: str = "mlp") -> Iterator[tuple[str, Shape]]:
    if block.fused:
        inputs = {"gate_up_proj": 2 * inner}
    elif block.gated:
        inputs = {"gate_proj": inner, "up_proj": inner}
    else:
        inputs = {"c_fc": inner}
    for part, outputs in inputs.items():
        yield from _linear(f"{name}.{part}", outputs, sizes.hidden, bias=block.mlp_bias)
    last = "down_proj" if block.gated else "c_proj"
    yield from _linear(f"{name}.{last}", sizes.hidden, inner, bias=block.mlp_bias)


def llama(config: ModelConfig) -> dict[str, Shape]:
    """Llama, and Granite, whose files are alike."""
    bias = config.flag("attention_bias")
    return decoder(config, Block(query_bias=bias, output_bias=bias, mlp_bias=config.flag("mlp_bias")))


def mistral(config: ModelConfig) -> dict[str, Shape]:
    """Mistral: no bias anywhere."""
    return decoder(config, Block())


def qwen2(config: ModelConfig) -> dict[str, Shape]:
    """Qwen2 and 2.5: queries, keys and values always have biases."""
    return decoder(config, Block(query_bias=True))


def _qwen3_block(config: ModelConfig) -> Block:
    bias = config.flag("attention_bias")
    return Block(query_bias=bias, output_bias=bias, query_key_norm=QueryKeyNorm.SHARED, head_dim=128)


def qwen3(config: ModelConfig) -> dict[str, Shape]:
    """Qwen3, dense."""
    return decoder(config, _qwen3_block(config))


def smollm3(config: ModelConfig) -> dict[str, Shape]:
    """SmolLM3: as Llama, tied by default."""
    bias = config.flag("attention_bias")
    return decoder(config, Block(query_bias=bias, output_bias=bias, mlp_bias=config.flag("mlp_bias"), tied=True))


def gemma(config: ModelConfig) -> dict[str, Shape]:
    """Gemma, the first."""
    bias = config.flag("attention_bias")
    return decoder(config, Block(query_bias=bias, output_bias=bias, tied=True, head_dim=256))


_FOUR_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip


def gemma2(config: ModelConfig) -> dict[str, Shape]:
    """Gemma-2: four normalisations a layer."""
    bias = config.flag("attention_bias")
    return decoder(config, Block(norms=_FOUR_NORMS, query_bias=bias, output_bias=bias, tied=True, head_dim=256))


def gemma3(config: ModelConfig) -> dict[str, Shape]:
    """Gemma-3, text alone."""
    bias = config.flag("attention_bias")
    block = Block(
        norms=_FOUR_NORMS,
        query_bias=bias,
        output_bias=bias,
        query_key_norm=QueryKeyNorm.SHARED,
        tied=True,
        head_dim=256,
    )
    return decoder(config, block)


def phi3(config: ModelConfig) -> dict[str, Shape]:
    """Phi-3, 3.5 and 4: fused matrices."""
    return decoder(config, Block(fused=True))


def olmo2(config: ModelConfig) -> dict[str, Shape]:
    """OLMo-2 and 3: normalisations behind each part alone."""
    bias = config.flag("attention_bias")
    block = Block(
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        query_bias=bias,
        output_bias=bias,
        query_key_norm=QueryKeyNorm.WHOLE,
    )
    return decoder(config, block)


def cohere(config: ModelConfig) -> dict[str, Shape]:
    """Command R and Aya: one normalisation a layer."""
    bias = config.flag("attention_bias")
    norm = QueryKeyNorm.BY_HEAD if config.flag("use_qk_norm") else QueryKeyNorm.NONE
    block = Block(norms=("input_layernorm",), query_bias=bias, output_bias=bias, query_key_norm=norm, tied=True)
    return decoder(config, block)


def stablelm(config: ModelConfig) -> dict[str, Shape]:
    """StableLM-2: normalisations with biases; some have no second one, and some normalise each head."""
    norms = ("input_layernorm",) if config.flag("use_parallel_residual") else Block().norms
    norm = QueryKeyNorm.LISTED if config.flag("qk_layernorm") else QueryKeyNorm.NONE
    block = Block(norms=norms, norm_bias=True, query_bias=config.flag("use_qkv_bias"), query_key_norm=norm)
    return decoder(config, block)


def starcoder2(config: ModelConfig) -> dict[str, Shape]:
    """Starcoder2: normalisations with biases, and a feed-forward part without a gate."""
    bias = config.flag("use_bias", default=True)
    block = Block(norm_bias=True, query_bias=bias, output_bias=bias, mlp_bias=bias, gated=False, tied=True)
    return decoder(config, block)


def mixtral(config: ModelConfig) -> dict[str, Shape]:
    """Mixtral: each layer has experts in place of its feed-forward part."""
    block = Block()
    sizes = _Sizes.of(config, block)
    names = _body(config, block, sizes)
    experts = config.number("num_local_experts", 8)
    for layer in range(config.number("num_hidden_layers")):
        names |= {f"model.layers.{layer}.{name}": shape for name, shape in _attention(block, sizes)}
        mixture = f"model.layers.{layer}.block_sparse_moe"
        names[f"{mixture}.gate.weight"] = (experts, sizes.hidden)
        for expert in range(experts):
            for part in ("w1", "w3"):
                names[f"{mixture}.experts.{expert}.{part}.weight"] = (sizes.inner, sizes.hidden)
            names[f"{mixture}.experts.{expert}.w2.weight"] = (sizes.hidden, sizes.inner)
    return names


def qwen3_moe(config: ModelConfig) -> dict[str, Shape]:
    """Qwen3 with experts, in the layers that config.json names."""
    block = _qwen3_block(config)
    sizes = _Sizes.of(config, block)
    names = _body(config, block, sizes)
    experts = config.number("num_experts", config.number("num_local_experts", 128))
    inner = config.number("moe_intermediate_size", 768)
    dense, step = config.numbers("mlp_only_layers"), config.number("decoder_sparse_step", 1)
    for layer in range(config.number("num_hidden_layers")):
        parts = dict(_attention(block, sizes))
        if layer in dense or (layer + 1) % step:
            parts |= dict(_feed_forward(block, sizes, sizes.inner))
        else:
            parts["mlp.gate.weight"] = (experts, sizes.hidden)
            for expert in range(experts):
                parts |= dict(_feed_forward(block, sizes, inner, name=f"mlp.experts.{expert}"))
        names |= {f"model.layers.{layer}.{name}": shape for name, shape in parts.items()}
    return names
