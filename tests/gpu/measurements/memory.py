"""The memory of tuning a large model against the product's formula, and that it comes back."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import torch
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.shapes import RowShape, large, make_base, make_samples, tiny
from tests.gpu.rig.tuning_runs import FinishedRun, forget, peak, release, reset_peak, run

from craft.contracts.spec.jobs import TrainingSettings
from craft.infra.models.training_memory import training_bytes
from craft_training.base_models import BaseModel
from craft_training.model_shape import shape_of

_MAX_OFF = 0.2
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

    @cached_property
    def taken_before(self) -> int:
        """The peak's part that is not of tuning."""
        return 0 if self._bench.on_gpu else _libraries_bytes(self._bench)

    @property
    def base(self) -> BaseModel:
        """The model, in bfloat16 on a GPU."""
        if self._base is None:
            dtype = torch.bfloat16 if self._bench.on_gpu else torch.float32
            self._base = make_base(self._config, self._bench, dtype=dtype)
        return self._base

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
        finished = run(self._bench, self.base, samples, _SETTINGS, folder="memory")
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
    longest = TokenPass(1024, 4) if bench.small else TokenPass(4096, 20)
    lengths = (TokenPass(longest.tokens // 4, 2), TokenPass(longest.tokens // 2, 2), longest)
    bound = f"within {_MAX_OFF:.0%} of the formula" if bench.on_gpu else "printed on a CPU"
    return (
        *(
            Check(f"tune, {one.tokens:,} tokens a pass", bound, partial(against_formula, bench, tunings, one))
            for one in lengths
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


def against_formula(bench: Bench, tunings: Tunings, one: TokenPass) -> Measured:
    """The peak of a run and the formula's, as a ratio; and the speed."""
    before = tunings.taken_before
    finished = tunings.finish(one)
    taken, expected = finished.peak_bytes - before, tunings.formula(one)
    off = taken / expected - 1
    speed = f"; {finished.steps_per_second() * one.tokens:,.0f} tokens/s" if one.steps > 4 else ""
    return Measured(
        f"{taken / 2**30:.2f} GiB, formula {expected / 2**30:.2f} GiB: {off:+.0%}{speed}",
        holds=abs(off) <= _MAX_OFF if bench.on_gpu else None,
    )


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


def _libraries_bytes(bench: Bench) -> int:
    """The memory of this process before the model, with all libraries in use: a CPU's peak has it in it."""
    config = tiny()
    samples = make_samples(3 * _ROWS_PER_STEP, RowShape(0, (8, 8), (4, 4)), vocabulary=config.vocab_size)
    run(bench, make_base(config, bench, dtype=torch.float32), samples, _SETTINGS, folder="libraries")
    reset_peak(bench)
    return peak(bench)
