"""Checks by shapes that an adapter belongs to a base model. vLLM loads an adapter of another model without an error."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from craft.contracts.stages.rows import ADAPTER_WEIGHTS
from craft.errors import ModelRejected
from craft.infra.process.server_paths import without_paths

PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""PEFT's name of a layer's weight is PREFIX, the layer's name in the model, and DOWN or UP."""
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


def _shapes(path: Path) -> Shapes:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelRejected(f"{path.name} cannot be read: {without_paths(str(error))}.", param="adapter") from error
