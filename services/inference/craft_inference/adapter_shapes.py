"""Whether an adapter belongs to a base model, by the shapes in their files: vLLM loads a foreign one without a word."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from craft.contracts.stages.rows import ADAPTER_WEIGHTS
from craft.errors import ModelRejected

PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""How PEFT names a layer's two weights: the model's own name between the first and one of the others."""
Shapes = dict[str, list[int]]


def check_fits(adapter: Path, model: Path) -> None:
    """Raises ModelRejected where a weight of the adapter has no linear layer of the right size in the model."""
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
        raise ModelRejected(f"{path.name} cannot be read: {error}.", param="adapter") from error
