"""A model's shapes, from config.json and the headers of its safetensors files, and the memory that they need.

No weights are loaded, and torch is not imported.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from craft.contracts.spec.jobs import TrainingSettings
from craft.errors import ModelRejected

_HEADS = ("lm_head", "embed_out")
_NOT_LAYERS = ("embed_tokens", "lm_head", "wte", "wpe")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`matrices`: (outputs, inputs) of the layers' linear maps by name. `parameters` counts all weights.

    `tied`: the output head is the input embedding. `vectors`: the lengths of one-dimensional weights by name.
    """

    matrices: dict[str, tuple[int, int]]
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    context_length: int
    tied: bool
    vectors: Mapping[str, int] = field(default_factory=dict)

    @property
    def layer_parameters(self) -> int:
        """P of the formula: the weights of the layers' linear maps."""
        return sum(outputs * inputs for outputs, inputs in self.matrices.values())

    def lora_parameters(self, settings: TrainingSettings) -> int:
        """L of the formula: r (outputs + inputs) for each adapted matrix."""
        return settings.lora_r * sum(
            outputs + inputs for name, (outputs, inputs) in self.matrices.items() if self.is_adapted(name, settings)
        )

    def is_adapted(self, matrix: str, settings: TrainingSettings) -> bool:
        """True if an adapter with these settings changes the matrix of this name. Targets are names' ends, or whole."""
        wanted = settings.target_modules
        layer = f".{matrix.removesuffix('.weight')}"
        return wanted == "all-linear" or any(layer.endswith(f".{name}") for name in wanted)


def is_layer_matrix(name: str, dimensions: int) -> bool:
    """True if a weight is a linear map of a layer, which every token passes through."""
    return dimensions == 2 and not any(part in name for part in _NOT_LAYERS)


def _is_head(name: str) -> bool:
    return name.removesuffix(".weight").rpartition(".")[2] in _HEADS


def read_shape(folder: Path) -> ModelShape:
    """The shape of a checked model folder, from config.json and the headers of its safetensors files."""
    config = json.loads((folder / "config.json").read_bytes())
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= _header(file)
    try:
        return ModelShape(
            matrices={
                name: (shape[0], shape[1]) for name, shape in shapes.items() if is_layer_matrix(name, len(shape))
            },
            parameters=sum(math.prod(shape) for shape in shapes.values()),
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            vocabulary=int(config["vocab_size"]),
            context_length=int(config["max_position_embeddings"]),
            tied=config.get("tie_word_embeddings") is True or not any(_is_head(name) for name in shapes),
            vectors={name: shape[0] for name, shape in shapes.items() if len(shape) == 1},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRejected(f"The model's config.json lacks {error}.", param="model") from error


def _header(file: Path) -> dict[str, list[int]]:
    with file.open("rb") as handle:
        entries = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}
