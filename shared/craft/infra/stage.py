"""What a stage function is: `(parameters, context) -> StageResult`. It reads inputs and writes `context.output`.

The same function runs in a worker's child process and in a test with `LocalContext`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from craft.contracts.stages import StageKind, StageProgress, StageResult
from craft.errors import Internal


class StageContext(Protocol):
    """What a stage may ask of its surroundings."""

    @property
    def output(self) -> Path:
        """The folder that becomes the artifact when the stage returns; empty at first."""
        ...

    @property
    def checkpoint(self) -> Path:
        """A folder that survives this attempt: what a later attempt at the same key can resume from."""
        ...

    @property
    def inputs(self) -> Mapping[str, Path]:
        """Input artifact folders by role, to read only."""
        ...

    def input(self, role: str) -> Path:
        """The folder of one input. Raises Internal where the plan gave none."""
        ...

    def progress(self, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Say how far the stage is. Cheap: call it at every step."""
        ...


StageFunction = Callable[[Any, StageContext], StageResult]
"""Takes the parameter model of its kind. A service's `wiring.stage_functions()` maps kinds to bound functions."""

StageFunctions = Mapping[StageKind, StageFunction]


@dataclass
class LocalContext:
    """A context over plain folders: the fake for tests, and what the child process fills in."""

    output: Path
    checkpoint: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    on_progress: Callable[[StageProgress], None] = lambda progress: None  # noqa: ARG005 - a sink that drops

    def input(self, role: str) -> Path:
        """See `StageContext.input`."""
        try:
            return self.inputs[role]
        except KeyError:
            raise Internal(f"The plan gave this stage no input {role!r}.") from None

    def progress(self, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """See `StageContext.progress`."""
        self.on_progress(StageProgress(done=done, total=total, metrics=dict(metrics or {})))
