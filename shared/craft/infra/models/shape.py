"""A model's shapes, from config.json and the headers of its safetensors files, and the memory that they need.

No weights are loaded, and torch is not imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from craft.contracts.spec.jobs import TrainingSettings
from craft.infra.models.architectures import AttentionKernel, architecture_of
from craft.infra.models.model_config import read_config
from craft.infra.models.weights import read_weights

_HEADS = ("lm_head", "embed_out")
_NOT_LAYERS = ("embed_", "lm_head", "wte", "wpe", "norm")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`matrices`: (outputs, inputs) of the layers' linear maps by name. `parameters` counts all weights.

    `tied`: the output head is the input embedding. `vectors`: the lengths of one-dimensional weights by name.
    `score_heads`: the heads of a layer whose attention keeps a score for each pair of tokens; 0 where it keeps none.
    """

    matrices: dict[str, tuple[int, int]]
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    context_length: int
    tied: bool
    vectors: Mapping[str, int] = field(default_factory=dict)
    score_heads: int = 0

    @property
    def layer_parameters(self) -> int:
        """P of the formula: the weights of the layers' linear maps."""
        return sum(outputs * inputs for outputs, inputs in self.matrices.values())

    @property
    def adaptable(self) -> frozenset[str]:
        """The matrices that an adapter can change: all, and those of the attention in a mixture of experts.

        Loading joins experts into parameters that are no linear layers.
        """
        mixture = any(".experts." in name for name in self.matrices)
        return frozenset(name for name in self.matrices if not mixture or is_attention(name))

    def lora_parameters(self, settings: TrainingSettings) -> int:
        """L of the formula: r (outputs + inputs) for each adapted matrix."""
        return settings.lora_r * sum(
            outputs + inputs for name, (outputs, inputs) in self.matrices.items() if self.is_adapted(name, settings)
        )

    def is_adapted(self, matrix: str, settings: TrainingSettings) -> bool:
        """True if an adapter with these settings changes the matrix of this name. Targets are names' ends, or whole."""
        if matrix not in self.adaptable:
            return False
        wanted = settings.target_modules
        layer = f".{matrix.removesuffix('.weight')}"
        return wanted == "all-linear" or any(layer.endswith(f".{name}") for name in wanted)


def is_layer_matrix(name: str, dimensions: int) -> bool:
    """True if a weight is a linear map of a layer, which every token passes through."""
    return dimensions == 2 and not any(part in name for part in _NOT_LAYERS)


def is_attention(name: str) -> bool:
    """True if a layer, or its weight, belongs to the attention."""
    return any("attn" in part or "attention" in part for part in name.split("."))


def _is_head(name: str) -> bool:
    return name.removesuffix(".weight").rpartition(".")[2] in _HEADS


def read_shape(folder: Path) -> ModelShape:
    """The shape of a checked model folder, from config.json and the headers of the weight files that count."""
    config, weights = read_config(folder / "config.json", "The model"), read_weights(folder, "The model")
    shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
    eager = architecture_of(config, experimental=True).attention is AttentionKernel.EAGER
    return ModelShape(
        matrices={name: (shape[0], shape[1]) for name, shape in shapes.items() if is_layer_matrix(name, len(shape))},
        parameters=weights.parameters,
        layers=config.number("num_hidden_layers"),
        hidden=config.number("hidden_size"),
        vocabulary=config.number("vocab_size"),
        context_length=config.context_length,
        tied=config.flag("tie_word_embeddings") or not any(_is_head(name) for name in shapes),
        vectors={name: shape[0] for name, shape in shapes.items() if len(shape) == 1},
        score_heads=config.number("num_attention_heads") if eager else 0,
    )
