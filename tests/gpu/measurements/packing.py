"""Packed batches against padded ones on the device: the same losses and the same gradients of LoRA's weights."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast
from zlib import crc32

import torch
from peft import LoraConfig
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.shapes import JOB_ROWS, make_base, make_samples, tiny

from craft_training.base_models import BaseModel, adapted
from craft_training.tuning.answer_trainer import answer_loss
from craft_training.tuning.batches import Batch, pack, pad
from craft_training.tuning.samples import Sample

_MAX_FLOAT32 = 1e-4
_MAX_TIMES_ROUNDING = 2.0
_MIN_LEAK = 1e-2
"""The relative change of the gradient where samples see one another. A comparison that misses it proves nothing."""


class Gradient(NamedTuple):
    """The loss, and all gradients of LoRA's weights in one vector."""

    loss: float
    vector: torch.Tensor


def checks(bench: Bench) -> Sequence[Check]:
    """Float32 by a bound; bfloat16 by its own rounding: packing may be no further from float32 than padding is."""
    return (
        Check("float32, packed against padded", f"relative <= {_MAX_FLOAT32}", partial(in_float32, bench)),
        Check("a mask that leaks is seen", f"relative >= {_MIN_LEAK}", partial(leak_is_seen, bench)),
        Check(
            "bfloat16, packed against padded",
            f"error against float32 <= {_MAX_TIMES_ROUNDING:g} x that of padding",
            partial(in_bfloat16, bench),
        ),
    )


def in_float32(bench: Bench) -> Measured:
    """The larger of the relative differences of loss and gradient."""
    base, samples = _tiny(bench, torch.float32)
    packed, padded = _gradient(base, pack(samples)), _gradient(base, pad(samples))
    loss, gradient = _apart(packed, padded)
    return Measured(f"loss {loss:.1e}, gradient {gradient:.1e}", holds=max(loss, gradient) <= _MAX_FLOAT32)


def leak_is_seen(bench: Bench) -> Measured:
    """The relative change of the gradient under a mask without blocks."""
    base, samples = _tiny(bench, torch.float32)
    batch = pack(samples)
    length = batch["input_ids"].shape[1]
    leaky = cast("Batch", {**batch, "attention_mask": torch.ones(1, 1, length, length, dtype=torch.bool).tril()})
    _, gradient = _apart(_gradient(base, leaky), _gradient(base, batch))
    return Measured(f"gradient {gradient:.1e}", holds=gradient >= _MIN_LEAK)


def in_bfloat16(bench: Bench) -> Measured:
    """The errors of packing and padding in bfloat16 autocast, both against float32 with the same weights."""
    base, samples = _tiny(bench, torch.bfloat16)
    exact, _ = _tiny(bench, torch.float32)
    exact.model.load_state_dict(base.model.state_dict())
    truth = _gradient(exact, pad(samples))
    packed, padded = _apart(_gradient(base, pack(samples)), truth), _apart(_gradient(base, pad(samples)), truth)
    return Measured(
        f"loss {packed[0]:.1e} against {padded[0]:.1e}, gradient {packed[1]:.1e} against {padded[1]:.1e}",
        holds=packed[1] <= _MAX_TIMES_ROUNDING * padded[1] and packed[0] <= _MAX_TIMES_ROUNDING * padded[0] + 1e-3,
    )


def _tiny(bench: Bench, dtype: torch.dtype) -> tuple[BaseModel, list[Sample]]:
    config = tiny()
    return make_base(config, bench, dtype=dtype), make_samples(8, JOB_ROWS, vocabulary=config.vocab_size)


def _gradient(base: BaseModel, batch: Batch) -> Gradient:
    """The loss and gradient as a training step computes them, of an adapter whose both factors are random."""
    torch.manual_seed(2)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with adapted(base, lora) as model:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # Drawn on the CPU: two devices draw other numbers from one seed.
                parameter.data = _drawn(name, parameter)
        tensors = cast("dict[str, torch.Tensor]", batch)
        on_device = cast("Batch", {name: tensor.to(base.model.device) for name, tensor in tensors.items()})
        loss = answer_loss(model, on_device, autocast=base.model.dtype is torch.bfloat16)
        loss.backward()  # type: ignore[no-untyped-call]
        vector = torch.cat([p.grad.float().flatten().cpu() for p in model.parameters() if p.grad is not None])
    return Gradient(loss.item(), vector)


def _drawn(name: str, parameter: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(crc32(name.encode()))
    return (0.1 * torch.randn(parameter.shape, generator=generator)).to(parameter)


def _apart(one: Gradient, other: Gradient) -> tuple[float, float]:
    """The relative differences of loss and gradient."""
    gradient = (one.vector - other.vector).norm() / other.vector.norm()
    return abs(one.loss - other.loss) / abs(other.loss), gradient.item()
