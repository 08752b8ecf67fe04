"""The table of architectures: what each one's decoder, training and adapters are, and which are refused, with words.

A model of another architecture may load and still give wrong numbers: an attention that hides other tokens, soft caps
that a fast kernel leaves out, layers that an adapter does not reach. So only those of this table are accepted, each of
which `make test-models` takes through a whole path beside transformers' own numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from craft.errors import ModelRejected
from craft.infra.models import layouts
from craft.infra.models.layouts import Layout
from craft.infra.models.model_config import ModelConfig


class EnginePath(StrEnum):
    """The decoder of the embedded engine."""

    SHARED_PREFIX = "shared-prefix"
    """Our attention, which computes what prompts share once."""
    PLAIN = "plain"
    """The model's own forward pass and cache: slower."""


class TrainingPath(StrEnum):
    """The batches of tuning."""

    PACKED = "packed"
    """Many samples in one sequence, each of which sees the shared beginning and itself."""
    PADDED = "padded"
    """A sequence for each sample."""


class AttentionKernel(StrEnum):
    """transformers' implementation of attention, where ours is not used."""

    SDPA = "sdpa"
    EAGER = "eager"
    """For soft-capped attention, which torch's kernel cannot compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A row of the table. `models` names well-known families; `experts`: adapters do not reach its experts."""

    name: str
    model_type: str
    models: str
    engine: EnginePath
    training: TrainingPath
    layout: Layout | None
    attention: AttentionKernel = AttentionKernel.SDPA
    vllm: str = "native"
    """vLLM's own code, or vLLM with transformers' code; NOT_SERVED where its numbers are others."""
    experts: bool = False
    code_taken_in: bool = False
    """Its repositories ship code (`auto_map`) that transformers has since taken in, so it is left unread."""
    experimental: bool = False
    note: str = ""

    @property
    def adapts(self) -> str:
        """The layers that an adapter on all linear layers changes, in words."""
        return "attention only: experts are not linear layers" if self.experts else "attention and feed-forward"


_FAST, _PLAIN = EnginePath.SHARED_PREFIX, EnginePath.PLAIN
_PACKED, _PADDED = TrainingPath.PACKED, TrainingPath.PADDED
_WINDOWS = "With sliding windows: plain and padded."
NOT_SERVED = "refused"
_NO_CPU_ADAPTERS = "vLLM's CPU build serves no adapter of a mixture."
_BY_TRANSFORMERS = "transformers' code"

TABLE: tuple[Architecture, ...] = (
    Architecture(
        name="LlamaForCausalLM",
        model_type="llama",
        models="Llama 2, 3, 3.1, 3.2, 3.3; SmolLM2; DeepSeek-R1-Distill-Llama; Falcon3; TinyLlama; Yi",
        engine=_FAST,
        training=_PACKED,
        layout=layouts.llama,
    ),
    Architecture(
        name="MistralForCausalLM",
        model_type="mistral",
        models="Mistral 7B, Nemo, Small 2409 and 2501, 3.x by `craft models text`; Zephyr",
        engine=_FAST,
        training=_PACKED,
        layout=layouts.mistral,
        note=_WINDOWS,
    ),
    Architecture(
        name="Qwen2ForCausalLM",
        model_type="qwen2",
        models="Qwen2, Qwen2.5; DeepSeek-R1-Distill-Qwen",
        engine=_FAST,
        training=_PACKED,
        layout=layouts.qwen2,
        note=_WINDOWS,
    ),
    Architecture(
        name="Qwen3ForCausalLM",
        model_type="qwen3",
        models="Qwen3, dense",
        engine=_FAST,
        training=_PACKED,
        layout=layouts.qwen3,
        note=_WINDOWS,
    ),
    Architecture(
        name="SmolLM3ForCausalLM",
        model_type="smollm3",
        models="SmolLM3",
        engine=_FAST,
        training=_PACKED,
        layout=layouts.smollm3,
        vllm=_BY_TRANSFORMERS,
        note=_WINDOWS,
    ),
    Architecture(
        name="GraniteForCausalLM",
        model_type="granite",
        models="Granite 3.0 to 3.3, dense",
        engine=_PLAIN,
        training=_PACKED,
        layout=layouts.llama,
    ),
    Architecture(
        name="Olmo2ForCausalLM",
        model_type="olmo2",
        models="OLMo-2",
        engine=_PLAIN,
        training=_PACKED,
        layout=layouts.olmo2,
        vllm=_BY_TRANSFORMERS,
    ),
    Architecture(
        name="Olmo3ForCausalLM",
        model_type="olmo3",
        models="OLMo-3",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.olmo2,
        vllm=_BY_TRANSFORMERS,
    ),
    Architecture(
        name="Phi3ForCausalLM",
        model_type="phi3",
        models="Phi-3, 3.5 and 4, mini to medium",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.phi3,
        code_taken_in=True,
        note="Fused projections are adapted as they are. With longrope, the context ends where the frequencies change.",
    ),
    Architecture(
        name="GemmaForCausalLM",
        model_type="gemma",
        models="Gemma 1 and 1.1",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.gemma,
    ),
    Architecture(
        name="Gemma2ForCausalLM",
        model_type="gemma2",
        models="Gemma-2",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.gemma2,
        attention=AttentionKernel.EAGER,
        note="Soft caps need the eager attention, which is slow for long rows.",
    ),
    Architecture(
        name="Gemma3ForCausalLM",
        model_type="gemma3_text",
        models="Gemma-3 1B and 270M; larger ones by `craft models text`",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.gemma3,
    ),
    Architecture(
        name="CohereForCausalLM",
        model_type="cohere",
        models="Command R and R+; Aya Expanse",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.cohere,
    ),
    Architecture(
        name="Cohere2ForCausalLM",
        model_type="cohere2",
        models="Command R7B, Command A",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.cohere,
        vllm=NOT_SERVED,
        note="vLLM 0.32 gives other numbers than transformers.",
    ),
    Architecture(
        name="StableLmForCausalLM",
        model_type="stablelm",
        models="StableLM-2",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.stablelm,
    ),
    Architecture(
        name="Starcoder2ForCausalLM",
        model_type="starcoder2",
        models="Starcoder2-instruct",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.starcoder2,
        vllm=_BY_TRANSFORMERS,
    ),
    Architecture(
        name="MixtralForCausalLM",
        model_type="mixtral",
        models="Mixtral 8x7B and 8x22B",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.mixtral,
        experts=True,
        note=_NO_CPU_ADAPTERS,
    ),
    Architecture(
        name="Qwen3MoeForCausalLM",
        model_type="qwen3_moe",
        models="Qwen3-30B-A3B and 235B-A22B",
        engine=_PLAIN,
        training=_PADDED,
        layout=layouts.qwen3_moe,
        experts=True,
        note=_NO_CPU_ADAPTERS,
    ),
)

_TEXT_ALONE = "Save its language model alone with `craft models text NAME`, and use NAME-text; or choose a text model."
_STATE = "Its layers keep a running state in place of keys and values, which prompts cannot share and padding changes."
REFUSED: Mapping[str, tuple[str, str]] = {
    "Gemma3ForConditionalGeneration": (
        "It has a vision part, which an adapter on all linear layers would change too.",
        _TEXT_ALONE,
    ),
    "GptOssForCausalLM": (
        "It thinks and replies in channels of its own format, its published weights are quantised, and adapters do "
        "not reach its experts.",
        "Choose a model that replies in plain text, e.g. a Qwen3 or Llama checkpoint.",
    ),
    **dict.fromkeys(
        ("MambaForCausalLM", "Mamba2ForCausalLM", "JambaForCausalLM", "FalconH1ForCausalLM", "Lfm2ForCausalLM",
         "Qwen3NextForCausalLM", "RecurrentGemmaForCausalLM", "BambaForCausalLM", "GraniteMoeHybridForCausalLM",
         "NemotronHForCausalLM"),
        (_STATE, "Choose a model whose layers are all attention, e.g. a Llama, Qwen3 or Mistral checkpoint."),
    ),
}  # fmt: skip
"""Architectures with a reason of their own, and what to do."""

_ROWS = {row.name: row for row in TABLE}
_OPERATOR = "the operator can allow others with CRAFT_EXPERIMENTAL_MODELS=true"


def architecture_of(config: ModelConfig, *, experimental: bool) -> Architecture:
    """The table's row for a model. With `experimental`, an unlisted causal language model gets a plain row.

    Raises ModelRejected for a model that is refused, in words that say what to do.
    """
    name, model = config.architecture, config.model_id
    row = _ROWS.get(name)
    if name in REFUSED:
        reason, hint = REFUSED[name]
        raise ModelRejected(f"{model} is a {name}, which is not supported. {reason}", hint=hint, param="base_model")
    if config.is_nested:
        reason = "Its language model is a part of a larger one (text_config)."
        raise ModelRejected(f"{model} is a {name or 'nested model'}. {reason}", hint=_TEXT_ALONE, param="base_model")
    if row is None and not name.endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelRejected(
            f"{model} is a {name or 'model of no named architecture'}, not a causal language model.",
            hint="Choose a decoder-only chat model, e.g. a Llama, Qwen, Mistral or SmolLM checkpoint.",
            param="base_model",
        )
    if config.asks_for_code and not (row and row.code_taken_in):
        raise ModelRejected(
            f"{model} asks for its own code (auto_map), which is never run.",
            hint="Choose a model that transformers implements itself.",
            param="base_model",
        )
    if row is None and not experimental:
        raise ModelRejected(
            f"{model} is a {name}, which is not among the architectures that are tested here.",
            hint=f"Supported are {', '.join(each.removesuffix('ForCausalLM') for each in _ROWS)}; {_OPERATOR}.",
            param="base_model",
        )
    if row is not None and config.entries.get("model_type", row.model_type) != row.model_type:
        raise ModelRejected(
            f"{model}: config.json names the architecture {name} and the model type "
            f"{str(config.entries['model_type'])[:60]}, which do not belong together.",
            hint="Take config.json from the original checkpoint.",
            param="base_model",
        )
    return row or _experimental(name, config)


def _experimental(name: str, config: ModelConfig) -> Architecture:
    return Architecture(
        name=name,
        model_type=str(config.entries.get("model_type", "")),
        models="",
        engine=_PLAIN,
        training=_PADDED,
        layout=None,
        vllm="untried",
        experts=any("expert" in entry for entry in config.entries),
        experimental=True,
    )
