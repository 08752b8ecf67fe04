"""One run of the product's `tune` with its curve, its adapter and the memory that it took."""

import gc
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.peak_memory import Peak

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import ADAPTER_WEIGHTS, CurveRow
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel
from craft_training.tuning.samples import Sample
from craft_training.tuning.tuning import Tuned, TuningRun, tune

NEVER = 1e9
WARM_UP_STEPS = 4


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run. `peak_bytes` are the most bytes of tensors above those from before it, if they were measured."""

    tuned: Tuned
    weights: dict[str, torch.Tensor]
    steps_done: tuple[int, ...]
    peak_bytes: int

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [row.loss for row in self.tuned.curve]

    def steps_per_second(self) -> float:
        """The speed after the first steps, in which kernels are loaded."""
        late = self.tuned.curve[WARM_UP_STEPS - 1 :]
        return (len(late) - 1) / max(1e-9, late[-1].seconds - late[0].seconds)


def run(
    bench: Bench,
    base: BaseModel,
    samples: Sequence[Sample],
    settings: TrainingSettings,
    *,
    folder: str,
    stop_after: int | None = None,
    checkpoint_seconds: float = NEVER,
    peak: AbstractContextManager[Peak] | None = None,
) -> FinishedRun | None:
    """Tune in a folder of its own; the same folder resumes. None if the run was stopped after `stop_after` steps.

    `peak` measures the run's memory.
    """
    done: list[int] = []
    stop = StopRequest()

    def on_step(row: CurveRow, _: int) -> None:
        done.append(row.step)
        if row.step == stop_after:
            stop.request(143)

    adapter = bench.scratch / folder / "adapter"
    release(bench)
    with suppress(SystemExit), peak or nullcontext(Peak()) as measured:
        tuned = tune(
            base,
            TuningRun(samples, settings, seed=3),
            adapter=adapter,
            checkpoints=bench.scratch / folder / "checkpoints",
            checkpoint_seconds=checkpoint_seconds,
            on_step=on_step,
            on_saved=lambda: None,
            stop=stop,
        )
    if stop.requested:
        return None
    return FinishedRun(tuned, load_file(adapter / ADAPTER_WEIGHTS), tuple(done), measured.above_bytes)


def forget(bench: Bench, *folders: str) -> None:
    """Remove the checkpoints and adapters of earlier runs."""
    for folder in folders:
        shutil.rmtree(bench.scratch / folder, ignore_errors=True)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The relative difference of two adapters."""
    assert one.keys() == other.keys()
    difference = sum((one[name].float() - other[name].float()).square().sum() for name in one)
    size = sum(weight.float().square().sum() for weight in other.values())
    return float((torch.as_tensor(difference) / torch.as_tensor(size)).sqrt())


def release(bench: Bench) -> None:
    """Give back what nothing uses."""
    gc.collect()
    if bench.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def saved_steps(folder: Path) -> list[int]:
    """The steps of the whole checkpoints below a run's folder."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*"))
