"""The longest rows that a training device holds, where the operator says how large it is. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.contracts.stages.parameters import TrainerRef
from craft.errors import RequestInvalid
from craft.infra.models.shape import ModelShape
from craft.infra.models.training_memory import longest_row, training_memory

_BYTES = {"bfloat16": 2, "float32": 4}
_LEAST_TOKENS = 16
"""That of `max_length`."""


@dataclass(frozen=True, slots=True)
class TrainingRoom:
    """The tokens of the longest row with its target, by the setting that limits it; none where nothing is known."""

    tokens: Mapping[str, int] = field(default_factory=dict)

    def narrowed(self, spec: JobSpec) -> JobSpec:
        """The specification with each `max_length` at what the device holds, if that is less."""
        training = self._narrowed("training.max_length", spec.training)
        rehearsal = self._narrowed("rehearsal.training.max_length", spec.rehearsal.training)
        return spec.model_copy(
            update={
                "training": training,
                "rehearsal": spec.rehearsal.model_copy(update={"training": rehearsal}),
            }
        )

    def binds(self, setting: str, limit: int) -> bool:
        """True if a limit is the device's, not the setting's own."""
        return self.tokens.get(setting) == limit

    def _narrowed(self, setting: str, training: TrainingSettings) -> TrainingSettings:
        most = self.tokens.get(setting, training.max_length)
        return training.model_copy(update={"max_length": min(most, training.max_length)})


def training_room(
    spec: JobSpec, shape: ModelShape | None, trainer: TrainerRef, *, device_bytes: int | None
) -> TrainingRoom:
    """The room of a job's trainings. Raises RequestInvalid if not even the model and its adapter fit.

    Nothing is known without `device_bytes`, or without a shape.
    """
    if shape is None or device_bytes is None:
        return TrainingRoom()
    wanted = {"training.max_length": spec.training}
    if any(strategy.needs_flow for strategy in spec.strategies):
        wanted["rehearsal.training.max_length"] = spec.rehearsal.training
    tokens: dict[str, int] = {}
    for setting, training in wanted.items():
        memory = training_memory(shape, training, weight_bytes=_BYTES[trainer.dtype], device=trainer.device)
        most = longest_row(memory, device_bytes=device_bytes)
        if most < _LEAST_TOKENS:
            needs, has = (count / 2**30 for count in (memory.weights + memory.adapter, device_bytes))
            raise RequestInvalid(
                f"The model's weights and its adapter take {needs:.1f} GiB in training; the training device has "
                f"{has:.1f} GiB.",
                hint="Choose a smaller model, lower lora_r, or train with quantization nf4 where it is offered.",
                param=setting.removesuffix(".max_length"),
            )
        if most < training.max_length:
            tokens[setting] = most
    return TrainingRoom(tokens)
