"""What a stage function is: `(parameters, context) -> StageResult`. It reads inputs and writes `context.output`.

The same function runs in a worker's child process and in a test with `LocalContext`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.kinds import StageKind
from craft.errors import Internal


class StopRequest:
    """Somebody wants the stage to end: at once, by SystemExit, or, while the stage holds it, where that suits it."""

    def __init__(self) -> None:
        self._deferred = False
        self._exit_code: int | None = None

    @property
    def asked(self) -> bool:
        """Whether the stage should come to an end."""
        return self._exit_code is not None

    def ask(self, exit_code: int) -> None:
        """For a signal handler of the thread that does the stage. Raises SystemExit unless the request is held.

        Asking again changes nothing: a stage that saves what it has is not interrupted a second time.
        """
        if self.asked:
            return
        self._exit_code = exit_code
        if not self._deferred:
            raise SystemExit(exit_code)

    @contextmanager
    def defer_stop(self) -> Iterator[None]:
        """Inside the block nothing is interrupted: look at `asked`, save, leave. The block then ends in SystemExit.

        Whoever asked waits for seconds only and kills then, so hold it around steps that are short.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            if self._exit_code is not None:
                raise SystemExit(self._exit_code)


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

    @property
    def stop(self) -> StopRequest:
        """A stage that can save what it has in the middle of its work holds this meanwhile."""
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
    stop: StopRequest = field(default_factory=StopRequest)

    def input(self, role: str) -> Path:
        """See `StageContext.input`."""
        try:
            return self.inputs[role]
        except KeyError:
            raise Internal(f"The plan gave this stage no input {role!r}.") from None

    def progress(self, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """See `StageContext.progress`."""
        self.on_progress(StageProgress(done=done, total=total, metrics=dict(metrics or {})))
