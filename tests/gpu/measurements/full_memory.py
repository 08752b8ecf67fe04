"""Memory that runs out in the middle of tuning: smaller passes, then checkpointing, then a clear end."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import NamedTuple

import torch
from tests.gpu.measurements.memory import Tunings
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.shapes import RowShape, make_samples
from tests.gpu.rig.small_device import limited_gpu, limited_model
from tests.gpu.rig.tuning_runs import FinishedRun, forget, run

from craft.contracts.spec.jobs import TrainingSettings
from craft.errors import CraftError
from craft.infra.models.training_memory import PassSize, training_memory
from craft_training.model_shape import shape_of

_MAX_APART = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Of the losses and gradients of each step. A row that is lost or comes twice changes them by a tenth and more."""
_STEPS = 3
_SLACK_BYTES = 256 << 20
_WEIGHT_BYTES = 4
_TARGET = 8
SETTINGS = TrainingSettings(epochs=1, batch_size=4, lora_dropout=0.0, max_length=8192)


class Limit(NamedTuple):
    """Shares of a step's pass that fit, with all activations kept and with checkpointing.

    On a GPU `kept` counts alone, beside an adapter with its moments; `moments` False leaves no room for these either.
    """

    kept: float
    checkpointed: float
    moments: bool = True


class Steps:
    """Runs of a few steps over one large model, whose memory is limited or not."""

    def __init__(self, bench: Bench, tunings: Tunings) -> None:
        self._bench = bench
        self._tunings = tunings
        self._row_tokens = 128 if bench.small else 1024

    @cached_property
    def free(self) -> FinishedRun:
        """The run with all memory."""
        return self._run()

    def limited(self, limit: Limit) -> FinishedRun:
        """The run within the limit. Raises what tuning raises."""
        with self.limited_to(limit):
            return self._run()

    @property
    def dtype(self) -> torch.dtype:
        """The model's."""
        dtype: torch.dtype = self._tunings.base.model.dtype
        return dtype

    def _run(self) -> FinishedRun:
        longest = self._row_tokens - _TARGET
        rows = RowShape(shared=0, own=(longest - _TARGET, longest), target=(1, _TARGET))
        base = self._tunings.base
        samples = make_samples(_STEPS * SETTINGS.batch_size, rows, vocabulary=base.model.config.vocab_size)
        forget(self._bench, "limited")
        finished = run(self._bench, base, samples, SETTINGS, folder="limited")
        assert finished is not None
        return finished

    def limited_to(self, limit: Limit) -> AbstractContextManager[None]:
        """A block in which the device has less memory."""
        tokens = SETTINGS.batch_size * self._row_tokens
        if not self._bench.on_gpu:
            kept, checkpointed = int(limit.kept * tokens), int(limit.checkpointed * tokens)
            return limited_model(self._tunings.base, kept=kept, checkpointed=checkpointed)
        model = self._tunings.base.model
        shape = shape_of(model)
        memory = training_memory(shape, SETTINGS, weight_bytes=model.dtype.itemsize)
        size = PassSize(tokens=tokens, logits=SETTINGS.batch_size * _TARGET, pairs=tokens**2)
        adapter = memory.adapter if limit.moments else _WEIGHT_BYTES * shape.lora_parameters(SETTINGS)
        room = int(limit.kept * memory.pass_bytes(size))
        return limited_gpu(self._bench, adapter + room + _SLACK_BYTES)


def checks(bench: Bench) -> Sequence[Check]:
    """Of four rows in a pass: three do not fit at once, then not one, then not even one with checkpointing."""
    steps = Steps(bench, Tunings(bench))
    smaller = Limit(kept=0.7, checkpointed=0.0)
    alone = Limit(kept=0.1, checkpointed=1.0)
    nothing = Limit(kept=0.0, checkpointed=0.0, moments=False)
    bound = f"losses and gradients <= {_MAX_APART[torch.bfloat16 if bench.on_gpu else torch.float32]} apart"
    return (
        Check("memory for 0.7 of a step", f"cut again; {bound}", partial(cut_again, steps, smaller)),
        Check("memory for no row without checkpointing", f"checkpointed; {bound}", partial(checkpointed, steps, alone)),
        Check("memory for no row at all", "gpu_oom in words", partial(ends, steps, nothing)),
    )


def cut_again(steps: Steps, limit: Limit) -> Measured:
    """The run that had to cut steps against the one that had not."""
    free, limited = steps.free, steps.limited(limit)
    counts, apart = limited.tuned.passes, _apart(limited, free)
    return Measured(
        f"{counts.passes} passes, {counts.cut_again} cut again, {counts.checkpointed} checkpointed; {apart:.1e} apart",
        holds=counts.cut_again > 0 and counts.passes > free.tuned.passes.passes and apart <= _MAX_APART[steps.dtype],
    )


def checkpointed(steps: Steps, limit: Limit) -> Measured:
    """The run that had to compute layers again against the one that had not."""
    free, limited = steps.free, steps.limited(limit)
    counts, apart = limited.tuned.passes, _apart(limited, free)
    return Measured(
        f"{counts.checkpointed} of {counts.passes} passes checkpointed; {apart:.1e} apart",
        holds=counts.checkpointed > 0 and apart <= _MAX_APART[steps.dtype],
    )


def ends(steps: Steps, limit: Limit) -> Measured:
    """The error where nothing fits."""
    try:
        steps.limited(limit)
    except CraftError as error:
        return Measured(f"{error.code}: {error.message}", holds=error.code == "gpu_oom")
    return Measured("the run ended well", holds=False)


def _apart(one: FinishedRun, other: FinishedRun) -> float:
    """The largest relative difference of a step's loss or gradient norm."""
    pairs = zip(one.tuned.curve, other.tuned.curve, strict=True)
    return max(
        abs(mine - theirs) / abs(theirs)
        for left, right in pairs
        for mine, theirs in ((left.loss, right.loss), (left.gradient_norm or 0.0, right.gradient_norm or 1.0))
    )
