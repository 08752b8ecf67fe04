"""Adapters that change what a model says, without training."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def random_adapter(model: Path, folder: Path, *, seed: int = 1, rank: int = 8, hidden_size: int | None = None) -> Path:
    """A LoRA adapter in PEFT layout with random weights. `hidden_size`: of a model of that width, so of another."""
    torch.manual_seed(seed)
    changes = {} if hidden_size is None else {"hidden_size": hidden_size, "ignore_mismatched_sizes": True}
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **changes)
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.05)
    tuned.save_pretrained(folder)
    return folder
