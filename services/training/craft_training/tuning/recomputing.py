"""Computing again: gradient checkpointing around one pass, and the random state from which a step is repeated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class RandomState:
    """The state of the generators that draw dropout masks: the host's, and the accelerator's where it trains."""

    device: torch.device
    host: torch.Tensor
    accelerator: torch.Tensor | None

    @classmethod
    def of(cls, device: torch.device) -> "RandomState":
        """The state now."""
        on_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), on_cuda)

    def restore(self) -> None:
        """Draw the same numbers again."""
        torch.set_rng_state(self.host)
        if self.accelerator is not None:
            torch.cuda.set_rng_state(self.accelerator, self.device)


def may_checkpoint(model: Any) -> bool:
    """True if a transformers model's layers can be checkpointed."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


@contextmanager
def checkpointing(model: Any, *, enabled: bool) -> Iterator[None]:
    """Keep only the layers' inputs of the block's forward passes, if `enabled`, and compute the rest again.

    A layer's dropout masks are drawn again from the same random state, so the gradients are the same. At the end the
    model is as before. `model` is a PEFT model, for which `may_checkpoint` holds.
    """
    if not enabled:
        yield
        return
    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": False})
    # Only the re-entrant form needs inputs with gradients, which would be computed for nothing.
    base.disable_input_require_grads()
    try:
        yield
    finally:
        base.activation_checkpointing_disable()
