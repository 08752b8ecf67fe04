"""The product's tuning against TRL's SFTTrainer: the same model, LoRA, rows, batch and dtype, in one process."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from tests.gpu.measurements.trl_runs import Speed, speed_peak, trl_packed, trl_padded
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.shapes import JOB_ROWS, large, make_base, make_samples
from tests.gpu.rig.tuning_runs import run

from craft.contracts.spec.jobs import TrainingSettings
from craft_training.base_models import BaseModel
from craft_training.tuning.samples import Sample

_MIN_RATIO = 1.5
_MIN_RATIO_IN_SMALL = 1.0
"""On a CPU that others use too a ratio is half noise."""
_MAX_LOSS_APART = 2e-2
SETTINGS = TrainingSettings(epochs=1)


class Race:
    """The runs, each once, on a model built for it. `make` builds it; every run has the same rows."""

    def __init__(self, bench: Bench, make: Callable[[], BaseModel], *, steps: int) -> None:
        self._bench = bench
        self._make = make
        self._done: dict[str, Speed] = {}
        self._steps = steps

    @property
    def least_ratio(self) -> float:
        """The bound of the speed."""
        return _MIN_RATIO_IN_SMALL if self._bench.small else _MIN_RATIO

    @property
    def measures_memory(self) -> bool:
        """True on a GPU."""
        return self._bench.on_gpu

    def ours(self) -> Speed:
        """The product's `tune`."""
        return self._once("ours", _ours)

    def padded(self) -> Speed:
        """TRL with its padded batches."""
        return self._once("padded", trl_padded)

    def packed(self) -> Speed:
        """TRL with packing."""
        return self._once("packed", trl_packed)

    def _once(self, name: str, runner: "Runner") -> Speed:
        if name not in self._done:
            base = self._make()
            count = self._steps * SETTINGS.batch_size
            samples = make_samples(count, JOB_ROWS, vocabulary=base.model.config.vocab_size)
            self._done[name] = runner(self._bench, base, samples, SETTINGS)
        return self._done[name]


Runner = Callable[..., Speed]


def checks(bench: Bench) -> Sequence[Check]:
    """Equal losses of the first step first: they show that both do the same work."""
    if find_spec("trl") is None:
        return (Check("speed", "printed where trl is installed", lambda: Measured("trl is absent", holds=None)),)
    config = large(bench)
    dtype = torch.bfloat16 if bench.on_gpu else torch.float32
    race = Race(bench, partial(make_base, config, bench, dtype=dtype), steps=12 if bench.small else 30)
    return race_checks(race)


def race_checks(race: Race) -> Sequence[Check]:
    """The checks over the three runs of one race."""
    return (
        Check("first loss, ours and TRL's", f"relative <= {_MAX_LOSS_APART}", partial(first_loss, race)),
        Check("speed against TRL, the better of padded and packed", f">= {race.least_ratio}", partial(speed, race)),
        Check("peak memory against TRL", "printed", partial(memory, race)),
    )


def first_loss(race: Race) -> Measured:
    """The mean loss of the first step: LoRA has changed nothing yet, and both draw the same rows."""
    ours, theirs = race.ours().first_loss, race.padded().first_loss
    apart = abs(ours - theirs) / theirs
    return Measured(f"{ours:.4f} and {theirs:.4f}", holds=apart <= _MAX_LOSS_APART)


def speed(race: Race) -> Measured:
    """Samples per second and their ratio."""
    ours, padded, packed = (each().samples_per_second for each in (race.ours, race.padded, race.packed))
    ratio = ours / max(padded, packed)
    return Measured(
        f"ours {ours:.1f} samples/s, padded {padded:.1f}, packed {packed:.1f}: {ratio:.2f} x",
        holds=ratio >= race.least_ratio,
    )


def memory(race: Race) -> Measured:
    """The peak of each run, without the model."""
    if not race.measures_memory:
        return Measured("not measured on a CPU", holds=None)
    peaks = [each().peak_bytes / 2**30 for each in (race.ours, race.padded, race.packed)]
    return Measured("ours {:.2f} GiB, padded {:.2f}, packed {:.2f}".format(*peaks), holds=None)


def _ours(bench: Bench, base: BaseModel, samples: Sequence[Sample], settings: TrainingSettings) -> Speed:
    finished = run(bench, base, samples, settings, folder="ours", peak=speed_peak(bench))
    assert finished is not None
    return Speed(
        samples_per_second=finished.steps_per_second() * settings.batch_size,
        first_loss=finished.losses[0],
        peak_bytes=finished.peak_bytes,
    )
