"""What a run would take, from the model's shapes alone: no weights are loaded, torch is not imported.

With P the parameters of the layers' matrices, L those of LoRA, T the trained tokens (rows x tokens x epochs):
- work = (4 P + 6 L) T floating-point operations: 2 forward and 2 backward for a frozen weight, whose own gradient
  nobody needs, and 2 more for a trained one.
- seconds = work / speed. A measured speed is this installation's last run by the same formula, so that shared
  prompt beginnings are in it; the assumed one is a cautious guess.
- memory = weights + 16 L bytes (float32 weight, gradient and Adam's two moments) + activations of one pass
  (150 bytes for each token, layer and hidden unit in bfloat16, as measured with SmolLM2; twice that in float32)
  + logits of one pass. Shared prompt beginnings make it less.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from craft.contracts.job import TrainingSettings
from craft.contracts.rest_training import TrainingEstimate, TrainingEstimateRequest
from craft.errors import ModelRejected

MOST_TOKENS_PER_PASS = 4096
"""Of one forward pass; an optimiser step of more tokens is done in several."""
_ASSUMED_FLOPS = {"cpu": 1e11, "cuda": 5e13}
_NOT_LAYERS = ("embed_tokens", "lm_head", "wte", "wpe")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`matrices` are (outputs, inputs) of the layers' linear maps by name; `parameters` counts everything."""

    matrices: dict[str, tuple[int, int]]
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    context_length: int

    @property
    def layer_parameters(self) -> int:
        """P of the formula."""
        return sum(outputs * inputs for outputs, inputs in self.matrices.values())

    def lora_parameters(self, settings: TrainingSettings) -> int:
        """L of the formula: r (outputs + inputs) for each adapted matrix."""
        wanted = settings.target_modules
        return settings.lora_r * sum(
            outputs + inputs
            for name, (outputs, inputs) in self.matrices.items()
            if wanted == "all-linear" or name.removesuffix(".weight").rpartition(".")[2] in wanted
        )


def steps_of(rows: int, settings: TrainingSettings) -> int:
    """Optimiser steps over `rows` samples; an epoch's last batch may be smaller."""
    return math.ceil(rows / settings.batch_size) * settings.epochs


def training_flops(layer_parameters: int, lora_parameters: int, tokens: int) -> float:
    """Work of training `tokens` tokens."""
    return (4.0 * layer_parameters + 6.0 * lora_parameters) * tokens


def is_layer_matrix(name: str, dimensions: int) -> bool:
    """Whether a weight is a linear map of a layer, which every token passes."""
    return dimensions == 2 and not any(part in name for part in _NOT_LAYERS)


def read_shape(folder: Path) -> ModelShape:
    """A checked model folder's shape, from config.json and the headers of its safetensors files."""
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
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRejected(f"The model's config.json lacks {error}.", param="model") from error


def estimate(
    request: TrainingEstimateRequest,
    shape: ModelShape,
    *,
    device: Literal["cpu", "cuda"],
    weight_bytes: int,
    measured_flops: float | None,
) -> TrainingEstimate:
    """The formulas of this file's head. `weight_bytes` is 2 for bfloat16 and 4 for float32."""
    settings = request.training
    tokens = request.rows * request.tokens_per_row * settings.epochs
    lora = shape.lora_parameters(settings)
    speed = measured_flops or _ASSUMED_FLOPS[device]
    return TrainingEstimate(
        steps=steps_of(request.rows, settings),
        trained_tokens=tokens,
        seconds=round(training_flops(shape.layer_parameters, lora, tokens) / speed, 1),
        speed="measured" if measured_flops else "assumed",
        flops_per_second=speed,
        memory_bytes=_memory(request, shape, lora, weight_bytes),
        trainable_parameters=lora,
        adapter_bytes=4 * lora,
        notes=_notes(request, shape, lora),
    )


def _memory(request: TrainingEstimateRequest, shape: ModelShape, lora: int, weight_bytes: int) -> int:
    rows = min(request.rows, request.training.batch_size)
    rows = max(1, min(rows, MOST_TOKENS_PER_PASS // request.tokens_per_row))
    activations = 75 * weight_bytes * rows * request.tokens_per_row * shape.layers * shape.hidden
    logits = rows * request.answer_tokens_per_row * shape.vocabulary * (4 + 4 + weight_bytes)
    return weight_bytes * shape.parameters + 16 * lora + activations + logits


def _notes(request: TrainingEstimateRequest, shape: ModelShape, lora: int) -> list[str]:
    settings, notes = request.training, []
    if (steps := steps_of(request.rows, settings)) < settings.min_steps:
        notes.append(f"{steps} optimiser steps are fewer than min_steps ({settings.min_steps}).")
    if request.tokens_per_row > (longest := min(settings.max_length, shape.context_length)):
        notes.append(f"Rows of {request.tokens_per_row} tokens are longer than the {longest} allowed.")
    if not lora:
        notes.append("No layer of the model has a name in target_modules.")
    return notes


def _header(file: Path) -> dict[str, list[int]]:
    with file.open("rb") as handle:
        entries = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
    return {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}
