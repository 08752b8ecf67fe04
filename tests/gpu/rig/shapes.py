"""Models of random weights, built on the device from a configuration, and training rows of random tokens."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from tests.gpu.rig.checks import Bench
from transformers import AutoModelForCausalLM, LlamaConfig

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import ModelRef, TrainerRef
from craft_training.base_models import BaseModel
from craft_training.tuning.samples import Sample


@dataclass(frozen=True, slots=True)
class RowShape:
    """The lengths of training rows in tokens: a beginning that all share, the row's own prompt, and its target."""

    shared: int
    own: tuple[int, int]
    target: tuple[int, int]


JOB_ROWS = RowShape(shared=47, own=(11, 19), target=(2, 6))
"""The demo's REFUSE rows as SmolLM2's tokenizer cuts them: 66 tokens each, of which 47 are the shared beginning."""


def tiny() -> LlamaConfig:
    """Two layers whose weights are large enough that attention decides the logits."""
    return _llama(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=160, vocabulary=512, spread=0.2)


def eight_billion() -> LlamaConfig:
    """The shape of Llama 3 8B."""
    return _llama(
        hidden=4096, layers=32, heads=32, kv_heads=8, intermediate=14336, vocabulary=128256, context_length=8192
    )


def eight_billion_in_small() -> LlamaConfig:
    """The same proportions with a 16th of the width and a quarter of the layers, for a CPU."""
    return _llama(hidden=256, layers=8, heads=4, kv_heads=1, intermediate=896, vocabulary=8016)


def large(bench: Bench) -> LlamaConfig:
    """The shape whose memory and speed are measured."""
    return eight_billion_in_small() if bench.small else eight_billion()


def make_base(config: LlamaConfig, bench: Bench, *, dtype: torch.dtype, seed: int = 1) -> BaseModel:
    """A model as the training service holds one. The weights are drawn on the device: the host has no copy."""
    torch.manual_seed(seed)
    with torch.device(bench.device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    folder = bench.scratch / f"model-{config.hidden_size}"
    config.save_pretrained(folder)  # Tuning reads it there.
    return BaseModel(
        ref=ModelRef(id="random/llama", revision="main", digest=f"{seed:064x}"),
        model=model.eval(),
        tokenizer=None,
        trainer=TrainerRef(dtype="bfloat16" if dtype is torch.bfloat16 else "float32"),
        folder=folder,
    )


def make_samples(count: int, rows: RowShape, *, vocabulary: int, seed: int = 1) -> list[Sample]:
    """Rows of random tokens; token 0 ends each."""
    rng = random.Random(seed)
    shared = [rng.randrange(1, vocabulary) for _ in range(rows.shared)]
    samples = []
    for index in range(count):
        own, target = rng.randint(*rows.own), rng.randint(*rows.target)
        tokens = [*shared, *(rng.randrange(1, vocabulary) for _ in range(own + target - 1)), 0]
        samples.append(Sample(id=str(index), tokens=tuple(tokens), prompt_length=rows.shared + own))
    return samples


def lora_of(settings: TrainingSettings) -> LoraConfig:
    """The adapter of these settings, in PEFT's words."""
    modules = settings.target_modules
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _llama(
    *,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    intermediate: int,
    vocabulary: int,
    context_length: int = 4096,
    spread: float = 0.02,
) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        max_position_embeddings=context_length,
        initializer_range=spread,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=0,
        architectures=["LlamaForCausalLM"],
    )
