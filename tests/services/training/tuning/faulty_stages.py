"""The tune stage for a worker's child whose disk gets stuck.

The optimiser state of the step after `STUCK_AFTER` is written into the pipe `STUCK_IN`.
"""

import os
from dataclasses import replace
from typing import Any

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.kinds import StageKind
from craft.infra.stage.context import LocalContext, StageContext, StageFunctions
from craft_training.wiring import stage_functions as real_functions


def stage_functions() -> StageFunctions:
    """The tune stage alone."""
    tune = real_functions()[StageKind.TUNE]
    stuck_after = int(os.environ["STUCK_AFTER"])

    def stuck(parameters: Any, context: StageContext) -> StageResult:
        assert isinstance(context, LocalContext)

        def on_progress(progress: StageProgress) -> None:
            if progress.done == stuck_after:
                folder = context.checkpoint / "writing" / f"checkpoint-{stuck_after + 1}"
                folder.mkdir()
                (folder / "optimizer.pt").symlink_to(os.environ["STUCK_IN"])
            context.on_progress(progress)

        return tune(parameters, replace(context, on_progress=on_progress))

    return {StageKind.TUNE: stuck}
