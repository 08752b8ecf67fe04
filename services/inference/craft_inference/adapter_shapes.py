"""Adapters by their shapes: one that belongs to a base model, and one that changes nothing.

vLLM loads an adapter of another model without an error.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import ModelRejected
from craft.infra.process.server_paths import without_paths

PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""PEFT's name of a layer's weight is PREFIX, the layer's name in the model, and DOWN or UP."""
_QUERIES = ("q_proj", "qkv_proj", "query_key_value")
_RANK = 8
Shapes = dict[str, list[int]]


def check_fits(adapter: Path, model: Path) -> None:
    """Check an adapter. Raises ModelRejected if one of its weights fits no linear layer of the model."""
    base: Shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        base |= _shapes(file)
    for name, shape in _shapes(adapter / ADAPTER_WEIGHTS).items():
        layer = name.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP)
        outputs, inputs = (base.get(f"{layer}.weight") or [0, 0])[:2]
        fits = (name.endswith(DOWN) and shape[-1:] == [inputs]) or (name.endswith(UP) and shape[:1] == [outputs])
        if not fits:
            raise ModelRejected(
                f"The adapter {adapter.name} does not belong to this base model: {name} has the shape {shape}.",
                hint="Give the base model that the adapter was trained on.",
                param="adapter",
            )


def write_neutral_adapter(folder: Path, model: Path) -> bool:
    """Write an adapter that changes nothing, of the least rank. False if the model has no layer of a usual name."""
    base: Shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        base |= _shapes(file)
    layers = sorted(name.removesuffix(".weight") for name, shape in base.items() if len(shape) == 2)
    found = next((layer for layer in layers if layer.rpartition(".")[2] in _QUERIES), None)
    if found is None:
        return False
    outputs, inputs = base[f"{found}.weight"]
    weights = {
        f"{PREFIX}{found}{DOWN}": np.zeros((_RANK, inputs), np.float32),
        f"{PREFIX}{found}{UP}": np.zeros((outputs, _RANK), np.float32),
    }
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": _RANK, "lora_alpha": _RANK, "bias": "none"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / ADAPTER_WEIGHTS)
    targets = {"target_modules": [found.rpartition(".")[2]], "base_model_name_or_path": ""}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config | targets))
    return True


def _shapes(path: Path) -> Shapes:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelRejected(f"{path.name} cannot be read: {without_paths(str(error))}.", param="adapter") from error
