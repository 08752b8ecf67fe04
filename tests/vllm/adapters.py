"""Adapters with random weights, which change a model's replies without training."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_MODULES = ("q_proj", "v_proj", "down_proj")


def random_adapter(model: Path, folder: Path, *, rank: int = 8, narrower: int = 1) -> Path:
    """Write a LoRA adapter in PEFT layout with random weights. With `narrower` > 1 it does not fit the model."""
    torch.manual_seed(1)
    weights: dict[str, torch.Tensor] = {}
    with safe_open(model / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - safetensors' own type has no iterator
            layer = name.removesuffix(".weight")
            if layer.rpartition(".")[2] in _MODULES:
                outputs, inputs = file.get_slice(name).get_shape()
                weights[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, inputs // narrower) * 0.08
                weights[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outputs // narrower, rank) * 0.08
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "anything",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(_MODULES),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
