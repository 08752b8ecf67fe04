"""The service's stages over a fake engine: it kills its process at the question `KILLED_AT`, and hangs at `HELD_AT`."""

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
    """Each question that is asked is printed."""
    killed_at, held_at = os.environ.get("KILLED_AT"), os.environ.get("HELD_AT")

    def say(prompt: Prompt, sample: int, _: Path | None) -> str:
        if prompt.id == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt.id == held_at:
            threading.Event().wait()
        print("asked", prompt.id, flush=True)
        return f"{sample} of {prompt.id}"

    engines = EngineHolder(lambda *_: FakeEngine(say), lambda ref: Path(ref.id), name="transformers")
    return {
        StageKind.PROBE: partial(stages.probe, engines=engines),
        StageKind.ANSWER: partial(stages.answer, engines=engines),
    }
