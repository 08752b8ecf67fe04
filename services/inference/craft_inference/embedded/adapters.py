"""LoRA adapters in PEFT layout, added to the weights of the loaded model and taken out again exactly.

Merged weights cost nothing at run time, where attached ones add two products to every linear layer (a third of a step
on CPU). The replaced weights are kept aside, so that taking the adapter out gives back the very same bits.
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

# What PEFT can do and we do not: each must be absent, empty or false.
_UNSUPPORTED = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "alpha_pattern", "rank_pattern", "lora_bias", "layer_replication",
    "trainable_token_indices", "target_parameters", "use_qalora", "corda_config", "alora_invocation_tokens",
)  # fmt: skip


class AdapterSlot:
    """The one adapter that a model carries at a time, or none."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._folder: Path | None = None
        self._replaced: dict[str, Tensor] = {}

    def use(self, folder: Path | None) -> None:
        """Answer with the adapter in `folder` (None: none) from now on. Raises ModelRejected, changing nothing."""
        if folder == self._folder:
            return
        deltas = {} if folder is None else read_deltas(folder, self._model)
        with torch.inference_mode():
            for name, weight in self._replaced.items():
                self._weight(name).copy_(weight)
            self._replaced = {}
            self._folder = None  # should a merge fail half-way, the next call starts from what is kept aside
            for name, delta in deltas.items():
                weight = self._weight(name)
                self._replaced[name] = weight.to("cpu", copy=True)
                weight.copy_(weight.float() + delta.to(weight.device))
        self._folder = folder

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self._model.get_submodule(name).weight.data  # type: ignore[assignment] # a Linear's
        return weight


def read_deltas(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """What the adapter adds to each linear layer's weight, in float32, by the layer's name in `model`."""
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
    """alpha, and whether it is divided by the root of the rank and not by the rank."""
    config: object = None
    with suppress(OSError, ValueError):
        config = json.loads(path.read_bytes())
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelRejected(f"{path.parent.name} is not a LoRA adapter in PEFT layout.", param="adapter")
    wanted = [name for name in _UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        wanted.append("bias")
    if wanted:
        raise ModelRejected(f"The adapter {path.parent.name} uses {', '.join(wanted)}.", param="adapter")
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
