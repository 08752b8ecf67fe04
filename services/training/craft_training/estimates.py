"""Estimates a run from the model's shapes alone, without loading weights or importing torch.

With P the parameters of the layers' matrices, L those of LoRA, T the trained tokens (rows x tokens x epochs):
- work = (4 P + 6 L) T floating-point operations: 2 forward and 2 backward for a frozen weight, whose own gradient
  is not needed, and 2 more for a trained one.
- seconds = work / speed. The measured speed comes from this installation's last run by the same formula, so it
  includes the gain from shared prompt beginnings. The assumed speed is a cautious guess.
- memory is `craft.infra.models.training_memory`'s. Shared prompt beginnings reduce it.
"""

import math
from typing import Literal

from craft.contracts.services.training import TrainingEstimate, TrainingEstimateRequest
from craft.contracts.spec.jobs import TrainingSettings
from craft.infra.models.shape import ModelShape
from craft.infra.models.training_memory import training_bytes

_ASSUMED_FLOPS = {"cpu": 1e11, "cuda": 5e13}


def steps_of(rows: int, settings: TrainingSettings) -> int:
    """The optimiser steps over `rows` samples. An epoch's last batch may be smaller than the others."""
    return math.ceil(rows / settings.batch_size) * settings.epochs


def training_flops(layer_parameters: int, lora_parameters: int, tokens: int) -> float:
    """The floating-point operations of training `tokens` tokens."""
    return (4.0 * layer_parameters + 6.0 * lora_parameters) * tokens


def estimate(
    request: TrainingEstimateRequest,
    shape: ModelShape,
    *,
    device: Literal["cpu", "cuda"],
    weight_bytes: int,
    measured_flops: float | None,
) -> TrainingEstimate:
    """Estimate a run by the formulas at this file's top. `weight_bytes` is 2 for bfloat16 and 4 for float32."""
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
        memory_bytes=training_bytes(
            shape,
            settings,
            rows=request.rows,
            tokens_per_row=request.tokens_per_row,
            answer_tokens_per_row=request.answer_tokens_per_row,
            weight_bytes=weight_bytes,
            device=device,
        ),
        trainable_parameters=lora,
        adapter_bytes=4 * lora,
        notes=_notes(request, shape, lora),
    )


def _notes(request: TrainingEstimateRequest, shape: ModelShape, lora: int) -> list[str]:
    settings, notes = request.training, []
    if (steps := steps_of(request.rows, settings)) < settings.min_steps:
        notes.append(f"{steps} optimiser steps are fewer than min_steps ({settings.min_steps}).")
    if request.tokens_per_row > (longest := min(settings.max_length, shape.context_length)):
        notes.append(f"Rows of {request.tokens_per_row} tokens are longer than the {longest} allowed.")
    if not lora:
        notes.append("No layer of the model has a name in target_modules.")
    return notes
