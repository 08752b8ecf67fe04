"""The memory of one forward and backward pass alone, against the formula: weights would hide its error in a sum."""

from typing import cast

import torch
from peft import PeftModel
from tests.gpu.rig.checks import Bench, Measured
from tests.gpu.rig.peak_memory import measured_peak
from tests.gpu.rig.shapes import RowShape, lora_of, make_samples
from tests.gpu.rig.tuning_runs import release

from craft.contracts.spec.jobs import TrainingSettings
from craft.infra.models.training_memory import PassSize, training_memory
from craft_training.base_models import BaseModel, adapted
from craft_training.model_shape import shape_of
from craft_training.tuning.answer_trainer import answer_loss
from craft_training.tuning.batches import Batch, pack
from craft_training.tuning.recomputing import checkpointing

_ROWS, _TARGET = 16, 8
_ADAM_BYTES = 16
_SETTINGS = TrainingSettings()
MAX_OFF = 0.2


def one_pass(bench: Bench, base: BaseModel, tokens: int, *, checkpointed: bool) -> Measured:
    """The bytes of a pass above what is resident before it, and the formula's."""
    taken, expected = (
        _taken(bench, base, tokens, checkpointed=checkpointed),
        _expected(base, tokens, checkpointed=checkpointed),
    )
    off = taken / expected - 1
    return Measured(
        f"{taken / 2**30:.2f} GiB, formula {expected / 2**30:.2f} GiB: {off:+.0%}",
        holds=abs(off) <= MAX_OFF,
    )


def _taken(bench: Bench, base: BaseModel, tokens: int, *, checkpointed: bool) -> int:
    own = tokens // _ROWS - _TARGET
    rows = RowShape(shared=0, own=(own, own), target=(_TARGET, _TARGET))
    tensors = cast("dict[str, torch.Tensor]", pack(make_samples(_ROWS, rows, vocabulary=base.model.config.vocab_size)))
    batch = cast("Batch", {name: tensor.to(base.model.device) for name, tensor in tensors.items()})
    autocast = base.model.dtype is torch.bfloat16
    with adapted(base, lora_of(_SETTINGS)) as model:
        model.train()
        # The first pass makes the gradients, which stay.
        _compute(model, batch, autocast=autocast, checkpointed=checkpointed)
        model.zero_grad(set_to_none=False)
        release(bench)
        with measured_peak(bench) as peak:
            _compute(model, batch, autocast=autocast, checkpointed=checkpointed)
    return peak.above_bytes


def _compute(model: PeftModel, batch: Batch, *, autocast: bool, checkpointed: bool) -> None:
    with checkpointing(model, enabled=checkpointed):
        answer_loss(model, batch, autocast=autocast).backward()  # type: ignore[no-untyped-call]


def _expected(base: BaseModel, tokens: int, *, checkpointed: bool) -> int:
    shape = shape_of(base.model)
    memory = training_memory(
        shape,
        _SETTINGS,
        weight_bytes=base.model.dtype.itemsize,
        device="cuda" if base.model.device.type == "cuda" else "cpu",
    )
    size = PassSize(tokens=tokens, logits=_ROWS * _TARGET, pairs=tokens**2)
    # Autocast's copies of the adapter are made in the pass; the formula counts them with the adapter.
    copies = memory.adapter - _ADAM_BYTES * shape.lora_parameters(_SETTINGS)
    return copies + memory.pass_bytes(size, checkpointed=checkpointed)
