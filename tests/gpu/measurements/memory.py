"""The memory of tuning a large model against the product's formula, and that it comes back."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from tests.gpu.measurements.one_pass import MAX_OFF, one_pass
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.peak_memory import measured_peak
from tests.gpu.rig.shapes import RowShape, large, make_base, make_samples
from tests.gpu.rig.tuning_runs import FinishedRun, forget, release, run

from craft.contracts.spec.jobs import TrainingSettings
from craft.infra.models.training_memory import training_bytes
from craft_training.base_models import BaseModel
from craft_training.model_shape import shape_of

_LEFT_BYTES = 64 << 20
_LEFT_ON_DEVICE_BYTES = 512 << 20
_ROWS_PER_STEP = 16
_TARGET = 8
_SETTINGS = TrainingSettings(epochs=1, batch_size=_ROWS_PER_STEP, max_length=8192)


class TokenPass(NamedTuple):
    """`steps` optimiser steps of one pass of `tokens` tokens each."""

    tokens: int
    steps: int


class Tunings:
    """The runs over one large model, which is built once."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._base: BaseModel | None = None
        self._config = large(bench)
        self.free_before = torch.cuda.mem_get_info()[0] if bench.on_gpu else 0

    @property
    def base(self) -> BaseModel:
        """The model, in bfloat16 on a GPU."""
        if self._base is None:
            dtype = torch.bfloat16 if self._bench.on_gpu else torch.float32
            self._base = make_base(self._config, self._bench, dtype=dtype)
        return self._base

    @property
    def model_bytes(self) -> int:
        """The weights' bytes."""
        return sum(weight.numel() * weight.element_size() for weight in self.base.model.parameters())

    def drop(self) -> None:
        """Forget the model."""
        self._base = None
        release(self._bench)

    def finish(self, one: TokenPass) -> FinishedRun:
        """Rows without a shared beginning, so that a pass has exactly so many tokens."""
        own = one.tokens // _ROWS_PER_STEP - _TARGET
        rows = RowShape(shared=0, own=(own, own), target=(_TARGET, _TARGET))
        samples = make_samples(_ROWS_PER_STEP * one.steps, rows, vocabulary=self._config.vocab_size)
        forget(self._bench, "memory")
        peak = measured_peak(self._bench)
        finished = run(self._bench, self.base, samples, _SETTINGS, folder="memory", peak=peak)
        assert finished is not None
        return finished

    def formula(self, one: TokenPass) -> int:
        """The product's estimate of the same run."""
        return training_bytes(
            shape_of(self.base.model),
            _SETTINGS,
            rows=_ROWS_PER_STEP,
            tokens_per_row=one.tokens // _ROWS_PER_STEP,
            answer_tokens_per_row=_TARGET,
            weight_bytes=self.base.model.dtype.itemsize,
            device="cuda" if self._bench.on_gpu else "cpu",
        )


def checks(bench: Bench) -> Sequence[Check]:
    """Three lengths of a pass; the longest is tuned long enough to tell its speed."""
    tunings = Tunings(bench)
    longest = TokenPass(1024, 3) if bench.small else TokenPass(4096, 20)
    lengths = (TokenPass(longest.tokens // 4, 2), TokenPass(longest.tokens // 2, 2), longest)
    bound = f"within {MAX_OFF:.0%} of the formula"
    return (
        *(
            Check(f"tune, {one.tokens:,} tokens a pass", bound, partial(against_formula, tunings, one))
            for one in lengths
        ),
        *(
            Check(
                f"one pass of {longest.tokens:,} tokens, {how}",
                bound,
                partial(alone, bench, tunings, longest, checkpointed=checkpointed),
            )
            for how, checkpointed in (("all kept", False), ("checkpointed", True))
        ),
        Check(
            "memory after tuning",
            f"<= {_LEFT_BYTES >> 20} MiB more than before",
            partial(after, bench, tunings, lengths[0]),
        ),
        Check(
            "memory after the model",
            f"<= {_LEFT_ON_DEVICE_BYTES >> 20} MiB less free",
            partial(dropped, bench, tunings),
        ),
    )


def against_formula(tunings: Tunings, one: TokenPass) -> Measured:
    """The peak of a run and the formula's, as a ratio; and the speed."""
    finished = tunings.finish(one)
    taken, expected = tunings.model_bytes + finished.peak_bytes, tunings.formula(one)
    off = taken / expected - 1
    speed = f"; {finished.steps_per_second() * one.tokens:,.0f} tokens/s" if one.steps > 4 else ""
    return Measured(
        f"{taken / 2**30:.2f} GiB, formula {expected / 2**30:.2f} GiB: {off:+.0%}{speed}",
        holds=abs(off) <= MAX_OFF,
    )


def alone(bench: Bench, tunings: Tunings, one: TokenPass, *, checkpointed: bool) -> Measured:
    """The same for one pass, without the weights."""
    return one_pass(bench, tunings.base, one.tokens, checkpointed=checkpointed)


def after(bench: Bench, tunings: Tunings, one: TokenPass) -> Measured:
    """What a finished run leaves allocated beside the model."""
    if not bench.on_gpu:
        return Measured("no device memory on a CPU", holds=None)
    assert tunings.base
    release(bench)
    before = torch.cuda.memory_allocated()
    tunings.finish(one)
    release(bench)
    left = torch.cuda.memory_allocated() - before
    return Measured(f"{left / 2**20:.0f} MiB more", holds=left <= _LEFT_BYTES)


def dropped(bench: Bench, tunings: Tunings) -> Measured:
    """The device's free memory once the model is gone, against its start."""
    if not bench.on_gpu:
        return Measured("no device memory on a CPU", holds=None)
    tunings.drop()
    missing = tunings.free_before - torch.cuda.mem_get_info()[0]
    return Measured(f"{missing / 2**20:.0f} MiB less free", holds=missing <= _LEFT_ON_DEVICE_BYTES)
