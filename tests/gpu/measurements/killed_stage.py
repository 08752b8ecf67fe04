"""The tune stage for a worker's child that the check kills: the product's `tune` over a tiny model of random weights.

`GPU_CHECK_DEVICE` is the device. With `GPU_CHECK_ENDLESS` True the stage is slow, so that it is killed in its middle.
"""

import os
import time
from typing import Any

import torch
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.shapes import JOB_ROWS, make_base, make_samples, tiny

from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.rows import CurveRow
from craft.infra.stage.context import StageContext, StageFunctions
from craft_training.tuning.tuning import TuningRun, tune

_PAUSE_SECONDS = 1.0
_SLOW_FROM = 3


def stage_functions() -> StageFunctions:
    """The tune stage alone."""
    return {StageKind.TUNE: _tune}


def _tune(parameters: Any, context: StageContext) -> StageResult:
    bench = Bench(os.environ["GPU_CHECK_DEVICE"], small=True, scratch=context.output)
    base = make_base(tiny(), bench, dtype=torch.float32)
    samples = make_samples(32, JOB_ROWS, vocabulary=base.model.config.vocab_size)
    endless = os.environ["GPU_CHECK_ENDLESS"] == "True"

    def on_step(row: CurveRow, steps: int) -> None:
        context.progress(row.step, steps)
        if endless and row.step >= _SLOW_FROM:
            time.sleep(_PAUSE_SECONDS)

    tuned = tune(
        base,
        TuningRun(samples, parameters.training, parameters.seed),
        adapter=context.output / "adapter",
        checkpoints=context.checkpoint,
        checkpoint_seconds=0.0,
        on_step=on_step,
        on_saved=context.work_saved,
        stop=context.stop,
    )
    return StageResult(counts={"resumed_at_step": tuned.resumed_at}, cost=Cost(seconds=tuned.seconds))
