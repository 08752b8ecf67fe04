"""Merges LoRA adapters in PEFT layout into the weights of the loaded model, and removes them again exactly.

Merged weights cost nothing at run time, whereas attached ones add two products to every linear layer (a third of a
step on CPU). The slot keeps the replaced weights, so that removing the adapter restores the very same bits.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import ModelRejected
from craft_inference.adapter_shapes import DOWN, PREFIX, UP

# PEFT supports these options and we do not: each must be absent, empty or false.
_UNSUPPORTED = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "alpha_pattern", "rank_pattern", "lora_bias", "layer_replication",
    "trainable_token_indices", "target_parameters", "use_qalora", "corda_config", "alora_invocation_tokens",
)  # fmt: skip


class AdapterSlot:
    """Holds the one adapter that is merged into the model, or none."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._folder: Path | None = None
        self._replaced: dict[str, Tensor] = {}

    def use(self, folder: Path | None) -> None:
        """Merge the adapter in `folder` in place of the present one; None only removes it.

        Raises ModelRejected, and then changes nothing.
        """
        if folder == self._folder:
            return
        deltas = {} if folder is None else read_deltas(folder, self._model)
        with torch.inference_mode():
            for name, weight in self._replaced.items():
                self._weight(name).copy_(weight)
            self._replaced = {}
            self._folder = None  # where a merge fails half-way, the next call restores the replaced weights first
            for name, delta in deltas.items():
                weight = self._weight(name)
                self._replaced[name] = weight.to("cpu", copy=True)
                weight.copy_(weight.float() + delta.to(weight.device))
        self._folder = folder

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._model.get_submodule(name).weight.data  # type: ignore[assignment] # a Linear's
        return weight


def read_deltas(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """The adapter's addition to each linear layer's weight, in float32, by the layer's name in `model`.

    Raises ModelRejected if the folder has no LoRA adapter for this model.
    """
    scale, rslora = _scale(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ModelRejected(
            f"{folder.name} has no {ADAPTER_WEIGHTS}.", hint="Only safetensors is loaded.", param="adapter"
        )
    tensors = load_file(path)
    names = {_layer(name, folder) for name in tensors}
    deltas: dict[str, Tensor] = {}
    for name in sorted(names):
        deltas[name] = _delta(name, tensors, model, scale=scale, rslora=rslora)
    if not deltas:
        raise ModelRejected(f"{folder.name} holds no LoRA weights.", param="adapter")
    return deltas


def _scale(path: Path) -> tuple[float, bool]:
    """(alpha, rslora) of the configuration: with rslora, alpha is divided by the root of the rank, else by the rank."""
    config: object = None
    with suppress(OSError, ValueError):
        config = json.loads(path.read_bytes())
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelRejected(f"{path.parent.name} is not a LoRA adapter in PEFT layout.", param="adapter")
    unsupported = [name for name in _UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        raise ModelRejected(f"The adapter {path.parent.name} uses {', '.join(unsupported)}.", param="adapter")
    return float(config["lora_alpha"]), bool(config.get("use_rslora"))


def _layer(tensor: str, folder: Path) -> str:
    for ending in (DOWN, UP):
        if tensor.startswith(PREFIX) and tensor.endswith(ending):
            return tensor.removeprefix(PREFIX).removesuffix(ending)
    raise ModelRejected(f"{folder.name} holds {tensor}, which is not a LoRA weight.", param="adapter")


def _delta(name: str, tensors: Mapping[str, Tensor], model: nn.Module, *, scale: float, rslora: bool) -> Tensor:
    layer: Any = None
    with suppress(AttributeError):
        layer = model.get_submodule(name)
    down, up = tensors.get(f"{PREFIX}{name}{DOWN}"), tensors.get(f"{PREFIX}{name}{UP}")
    if not isinstance(layer, nn.Linear) or down is None or up is None:
        raise ModelRejected(f"The adapter's weights for {name} do not belong to this model.", param="adapter")
    rank = down.shape[0]
    if up.shape != (layer.out_features, rank) or down.shape != (rank, layer.in_features):
        raise ModelRejected(f"The adapter's weights for {name} have other sizes than the model's.", param="adapter")
    return up.float() @ down.float() * (scale / (rank**0.5 if rslora else rank))
