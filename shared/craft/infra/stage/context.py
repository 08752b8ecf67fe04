"""The interface of a stage function: `(parameters, context) -> StageResult`.

A stage function reads its inputs and writes into `context.output`. The same function runs in a worker's child process
and in a test with `LocalContext`.
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
    """A request to end the stage: at once, by SystemExit, or after the block in which the stage defers stops."""

    def __init__(self) -> None:
        self._deferred = False
        self._exit_code: int | None = None

    @property
    def requested(self) -> bool:
        """True if a stop was requested."""
        return self._exit_code is not None

    def request(self, exit_code: int) -> None:
        """Request a stop. Raises SystemExit, except inside `defer_stop`.

        The signal handler calls it, in the thread that runs the stage. A second call changes nothing: a stage that
        saves its work is not interrupted again.
        """
        if self.requested:
            return
        self._exit_code = exit_code
        if not self._deferred:
            raise SystemExit(exit_code)

    @contextmanager
    def defer_stop(self) -> Iterator[None]:
        """No stop interrupts the block: check `requested`, save, and leave the block, which then raises SystemExit.

        The worker kills the process after a few seconds, so defer stops only around short steps.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            if self._exit_code is not None:
                raise SystemExit(self._exit_code)


class StageContext(Protocol):
    """The folders and calls that a stage uses."""

    @property
    def output(self) -> Path:
        """The folder that becomes the artifact when the stage returns; empty at first."""
        ...

    @property
    def checkpoint(self) -> Path:
        """A folder that survives this attempt: a later attempt at the same key can resume from it."""
        ...

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The folders of the input artifacts by role; read-only."""
        ...

    @property
    def stop(self) -> StopRequest:
        """The stop request; a stage that can save unfinished work defers it with `defer_stop`."""
        ...

    def input(self, role: str) -> Path:
        """The folder of one input. Raises Internal if the plan gave none."""
        ...

    def progress(self, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Report the stage's progress. The call is cheap: make it at every step."""
        ...

    def work_saved(self) -> None:
        """Note that a later attempt need not do all of this one's work again; the next report of progress tells it."""
        ...


StageFunction = Callable[[Any, StageContext], StageResult]
"""Takes the parameters of its kind. A service's `wiring.stage_functions()` maps kinds to bound functions."""

StageFunctions = Mapping[StageKind, StageFunction]


@dataclass
class LocalContext:
    """A context over plain folders. The child process uses it, and tests use it as their fake."""

    output: Path
    checkpoint: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    on_progress: Callable[[StageProgress], None] = lambda progress: None  # noqa: ARG005 - a sink that drops
    stop: StopRequest = field(default_factory=StopRequest)
    saved: bool = field(default=False, init=False)

    def input(self, role: str) -> Path:
        """See `StageContext.input`."""
        try:
            return self.inputs[role]
        except KeyError:
            raise Internal(f"The plan gave this stage no input {role!r}.") from None

    def progress(self, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """See `StageContext.progress`."""
        self.on_progress(StageProgress(done=done, total=total, metrics=dict(metrics or {}), saved=self.saved))

    def work_saved(self) -> None:
        """See `StageContext.work_saved`."""
        self.saved = True
