"""Random models of every row of the table of architectures, each with its family's features so strong that they show.

A window is shorter than any prompt, caps and multipliers are far from one, positions are scaled or partial, biases and
norms are random. `plain_form` names the settings that switch a family's features off: its numbers must then be others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tests.services.inference.conftest import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from craft.infra.models.architectures import EnginePath, TrainingPath

WINDOW = 16
CONTEXT_LENGTH = 2048
_FAST, _PLAIN = EnginePath.SHARED_PREFIX, EnginePath.PLAIN
_PACKED, _PADDED = TrainingPath.PACKED, TrainingPath.PADDED
_WINDOWED: Mapping[str, Any] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
_ALL_FULL: Mapping[str, Any] = {"layer_types": ["full_attention", "full_attention"]}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128}
_LONG_ROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 3.0],
    "long_factor": [9.0, 27.0],
    "original_max_position_embeddings": CONTEXT_LENGTH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomFamily:
    """A family of models. `settings` are those of its configuration; the paths are those that it must take."""

    name: str
    architecture: str
    model_type: str
    engine: EnginePath
    training: TrainingPath
    settings: Mapping[str, Any] = field(default_factory=dict)
    plain_form: Mapping[str, Any] = field(default_factory=dict)
    embedding_scale: float = 1.0
    """A tied random model repeats the last token where its embedding is large beside what layers add."""


def _family(
    name: str,
    architecture: str,
    model_type: str,
    paths: tuple[EnginePath, TrainingPath],
    plain_form: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RandomFamily:
    return RandomFamily(
        name=name,
        architecture=f"{architecture}ForCausalLM",
        model_type=model_type,
        engine=paths[0],
        training=paths[1],
        settings=settings,
        plain_form=plain_form or {},
        embedding_scale=0.3 if model_type.startswith("gemma") else 1.0,
    )


def _rope(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {"rope_theta": 10_000.0, **kind}


_DEFAULT_ROPE = {"rope_parameters": _rope({"rope_type": "default"})}
_QUICK, _PLAIN_PACKED, _SLOW = (_FAST, _PACKED), (_PLAIN, _PACKED), (_PLAIN, _PADDED)
FAMILIES: tuple[RandomFamily, ...] = (
    _family("llama-2-untied", "Llama", "llama", _QUICK, tie_word_embeddings=False, num_key_value_heads=6),
    _family(
        "llama-3.2", "Llama", "llama", _QUICK, _DEFAULT_ROPE,
        rope_parameters=_rope(_LLAMA3), tie_word_embeddings=True, head_dim=16,
    ),
    _family("llama-biased", "Llama", "llama", _QUICK, attention_bias=True, mlp_bias=True),
    _family("mistral", "Mistral", "mistral", _QUICK, sliding_window=None, head_dim=12),
    _family(
        "mistral-7b-v0.1", "Mistral", "mistral", _SLOW, {"sliding_window": None}, sliding_window=WINDOW,
    ),
    _family("qwen2.5-r1-distill", "Qwen2", "qwen2", _QUICK, tie_word_embeddings=True),
    _family("qwen2.5-yarn", "Qwen2", "qwen2", _QUICK, _DEFAULT_ROPE, rope_parameters=_rope(_YARN)),
    _family(
        "qwen2-window", "Qwen2", "qwen2", _SLOW, {"use_sliding_window": False, "layer_types": None},
        use_sliding_window=True, max_window_layers=1, sliding_window=WINDOW,
    ),
    _family("qwen3", "Qwen3", "qwen3", _QUICK, head_dim=16, tie_word_embeddings=True),
    _family("qwen3-yarn", "Qwen3", "qwen3", _QUICK, _DEFAULT_ROPE, rope_parameters=_rope(_YARN), attention_bias=True),
    _family(
        "smollm3", "SmolLM3", "smollm3", _QUICK, {"no_rope_layers": [1, 1]},
        no_rope_layers=[1, 0], tie_word_embeddings=True,
    ),
    _family(
        "granite", "Granite", "granite", _PLAIN_PACKED,
        {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0},
        embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=2.0, attention_multiplier=0.2,
    ),
    _family("olmo-2", "Olmo2", "olmo2", _PLAIN_PACKED),
    _family("olmo-3", "Olmo3", "olmo3", _SLOW, _ALL_FULL, **_WINDOWED),
    _family(
        "phi-4", "Phi3", "phi3", _SLOW, {"partial_rotary_factor": 1.0, **_DEFAULT_ROPE},
        rope_parameters=_rope({"rope_type": "default", "partial_rotary_factor": 0.5}), partial_rotary_factor=0.5,
    ),
    _family("phi-3-window", "Phi3", "phi3", _SLOW, {"sliding_window": None}, sliding_window=WINDOW),
    _family(
        "phi-4-mini-longrope", "Phi3", "phi3", _SLOW, _DEFAULT_ROPE,
        rope_parameters=_rope({**_LONG_ROPE, "partial_rotary_factor": 0.5}), partial_rotary_factor=0.5,
        original_max_position_embeddings=CONTEXT_LENGTH, max_position_embeddings=4 * CONTEXT_LENGTH,
        tie_word_embeddings=True,
    ),
    _family("gemma", "Gemma", "gemma", _SLOW, head_dim=16),
    _family(
        "gemma-2", "Gemma2", "gemma2", _SLOW,
        {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        head_dim=16, attn_logit_softcapping=2.0, final_logit_softcapping=4.0, query_pre_attn_scalar=10, **_WINDOWED,
    ),
    _family("gemma-3", "Gemma3", "gemma3_text", _SLOW, _ALL_FULL, head_dim=16, query_pre_attn_scalar=10, **_WINDOWED),
    _family(
        "command-r", "Cohere", "cohere", _SLOW, {"logit_scale": 1.0}, logit_scale=0.3, use_qk_norm=True,
    ),
    _family("command-r7b", "Cohere2", "cohere2", _SLOW, _ALL_FULL, logit_scale=0.3, **_WINDOWED),
    _family(
        "stablelm-2", "StableLm", "stablelm", _SLOW, {"rope_parameters": _rope({"rope_type": "default"}) | {
            "partial_rotary_factor": 1.0}},
        rope_parameters=_rope({"rope_type": "default", "partial_rotary_factor": 0.25}),
        use_qkv_bias=True, qk_layernorm=True,
    ),
    _family("stablelm-2-12b", "StableLm", "stablelm", _SLOW, use_parallel_residual=True),
    _family("starcoder2", "Starcoder2", "starcoder2", _SLOW, {"sliding_window": None}, sliding_window=WINDOW),
    _family("mixtral", "Mixtral", "mixtral", _SLOW, {"num_experts_per_tok": 4}, num_local_experts=4,
            num_experts_per_tok=2, tie_word_embeddings=False),
    _family(
        "qwen3-moe", "Qwen3Moe", "qwen3_moe", _SLOW, {"num_experts_per_tok": 4},
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True, mlp_only_layers=[0],
        head_dim=16,
    ),
)  # fmt: skip


def config_of(family: RandomFamily, *, layers: int = 2, **changes: Any) -> Any:
    """The family's configuration for a tiny model. Lists of layers are repeated."""
    settings = {
        "architectures": [family.architecture],
        "vocab_size": 262,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_LENGTH,
        "initializer_range": 0.35,  # the usual 0.02 would leave every token as likely as the next
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **family.settings,
        **changes,
    }
    for name in ("layer_types", "no_rope_layers"):
        if settings.get(name):
            settings[name] = settings[name] * (layers // 2)
    return AutoConfig.for_model(family.model_type, num_hidden_layers=layers, **settings)


def random_model(family: RandomFamily, *, layers: int = 2, **changes: Any) -> Any:
    """A model of random weights; the same ones for the same sizes."""
    torch.manual_seed(7)
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(config_of(family, layers=layers, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is model.get_input_embeddings().weight:
                parameter.mul_(family.embedding_scale)
            if parameter.ndim == 1:  # norms and biases, which begin as ones and zeros
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def write_family(folder: Path, family: RandomFamily, *, layers: int = 2, dtype: torch.dtype = torch.float32) -> Path:
    """Write a random model of the family as a checkpoint."""
    random_model(family, layers=layers).to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
