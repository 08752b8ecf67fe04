"""A worker of the datasets queue whose stages wait for a word: `python held_stages.py`.

A stage says that it has begun, by a line in its checkpoint, and goes on once the file `go` lies in the state folder.
Its bytes name its process, so that two attempts never make the same artifact.
"""

import os
import threading
from pathlib import Path

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.kinds import Service, StageKind
from craft.contracts.stages.parameters import IngestParameters
from craft.infra.settings.settings import Settings
from craft.infra.stage.context import StageContext, StageFunctions
from craft.infra.worker.worker import run

_LOOK_SECONDS = 0.02


def stage_functions() -> StageFunctions:
    """Ingest only: the first stage of every job."""
    return {StageKind.INGEST: _held}


def _held(parameters: IngestParameters, context: StageContext) -> StageResult:
    begun = context.checkpoint / "begun"
    earlier = len(begun.read_text().splitlines()) if begun.exists() else 0
    with begun.open("a") as file:
        file.write(f"{os.getpid()}\n")
    go = Path(os.environ["CRAFT_STATE_DIR"]) / "go"
    wait = threading.Event()
    while not go.exists():
        # It gets no further: progress would forgive the attempts before.
        context.progress(0, os.getpid())
        wait.wait(_LOOK_SECONDS)
    (context.output / "text").write_text(f"{os.getpid()} after {earlier}")
    return StageResult(counts={"earlier": earlier})


if __name__ == "__main__":
    run(Service.DATASETS, "held_stages:stage_functions", Settings())
