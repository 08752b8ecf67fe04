"""The service's stages over a fake engine that kills its process at question `KILLED_AT` and hangs at `HANGS_AT`."""

import os
import signal
import threading
from functools import partial
from pathlib import Path

from craft.contracts.stages.kinds import StageKind
from craft.infra.stage.context import StageFunctions
from craft_inference import stages
from craft_inference.engine import Prompt
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine


def stage_functions() -> StageFunctions:
    """The stage functions. The engine prints each question that it is asked."""
    killed_at, hangs_at = os.environ.get("KILLED_AT"), os.environ.get("HANGS_AT")

    def say(prompt: Prompt, sample: int, _: Path | None) -> str:
        if prompt.id == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt.id == hangs_at:
            threading.Event().wait()
        print("asked", prompt.id, flush=True)
        return f"{sample} of {prompt.id}"

    engines = EngineHolder(lambda *_: FakeEngine(say), lambda ref: Path(ref.id), name="transformers")
    return {
        StageKind.PROBE: partial(stages.probe, engines=engines),
        StageKind.ANSWER: partial(stages.answer, engines=engines),
    }
