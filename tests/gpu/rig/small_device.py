"""A device with less memory: a GPU by torch's own limit for this process, a CPU by a model that raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.tuning_runs import release

from craft_training.base_models import BaseModel


@contextmanager
def limited_gpu(bench: Bench, more_bytes: int) -> Iterator[None]:
    """Within the block torch's allocator takes at most so many bytes of the GPU beside those that it has."""
    total = torch.cuda.mem_get_info()[1]
    release(bench)
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + more_bytes) / total))
    try:
        yield
    finally:
        release(bench)
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def limited_model(base: BaseModel, *, kept: int, checkpointed: int) -> Iterator[None]:
    """Within the block a training pass with more tokens raises torch's error of a full device.

    `kept` is the limit of a pass that keeps all activations, `checkpointed` that of one that computes them again.
    """

    def after_layers(model: Any, _: object, named: dict[str, Any], output: object) -> None:
        again = any(layer.gradient_checkpointing for layer in model.layers)
        if model.training and named["input_ids"].numel() > (checkpointed if again else kept):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = base.model.model.register_forward_hook(after_layers, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
