"""The process in which stages run, one after another. `craft.infra.worker.child_supervisor` starts it:
`python -m craft.infra.stage.child FUNCTIONS PARENT_PID SOCKET_FD LIFELINE_FD`.
"""

import contextlib
import importlib
import logging
import math
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import StageProgress
from craft.errors import CraftError, Fault, Internal
from craft.infra.process.error_mapping import error_of
from craft.infra.process.parent_death import die_with_parent
from craft.infra.process.peak_memory import forget_peak, peak_bytes
from craft.infra.stage.channel import Channel, Failed, Finished, Progressed, RunStage
from craft.infra.stage.context import LocalContext, StageFunctions, StopRequest

_PROGRESS_PAUSE_SECONDS = 0.1


class ProgressSender:
    """Sends the latest progress from its own thread, so that it costs a stage nothing: ten times a second at most."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._latest: StageProgress | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        threading.Thread(target=self._run, name="progress", daemon=True).start()

    def put(self, progress: StageProgress) -> None:
        """Replace the progress that was not sent yet."""
        with self._lock:
            self._latest = progress
        self._news.set()

    def flush(self) -> None:
        """Send the unsent progress now."""
        with self._lock:
            latest, self._latest = self._latest, None
            # Sent inside the lock, so that an older progress never arrives after a newer one.
            if latest is not None:
                self._channel.send(Progressed(progress=_finite_progress(latest)))

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            self.flush()
            time.sleep(_PROGRESS_PAUSE_SECONDS)


def load_functions(path: str) -> StageFunctions:
    """Import `package.module:callable` and call it."""
    module, _, name = path.partition(":")
    functions: StageFunctions = getattr(importlib.import_module(module), name)()
    return functions


def main(arguments: list[str]) -> None:
    """Run stages until the parent closes the channel or sends SIGTERM."""
    path, parent, descriptor, lifeline = arguments
    _be_killed_first()
    _start_reaper(int(lifeline), others=(0, 1, 2, int(descriptor)))
    die_with_parent(int(parent))
    stop = StopRequest()
    # It raises an exception, so that a stage's `finally` can save its work; later, where the stage defers stops.
    signal.signal(signal.SIGTERM, lambda signum, _: stop.request(128 + signum))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    channel = Channel(socket.socket(fileno=int(descriptor)))
    inbox: queue.SimpleQueue[RunStage] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(channel, inbox), name="inbox", daemon=True).start()
    try:
        _serve(path, channel, inbox, stop)
    except SystemExit as end:
        # Exit without the interpreter's clean-up: it waits for threads and libraries while the worker waits for us.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


def _be_killed_first() -> None:
    """Where the machine's memory ends in spite of all limits, let the kernel kill a stage, and no database."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _serve(path: str, channel: Channel, inbox: "queue.SimpleQueue[RunStage]", stop: StopRequest) -> NoReturn:
    sender = ProgressSender(channel)
    functions: StageFunctions | None = None
    while True:
        work = inbox.get()
        try:
            functions = functions or load_functions(path)
            message: Finished | Failed = _run_stage(work, functions, sender, stop)
        except Exception as error:  # top level of the child: every failure travels to the parent
            message = _failure(error)
        sender.flush()
        _end_log(work.log_end)
        channel.send(message)


def _run_stage(work: RunStage, functions: StageFunctions, sender: ProgressSender, stop: StopRequest) -> Finished:
    kind = work.parameters.kind
    if kind not in functions:
        raise Internal(f"This worker does no {kind.value} stages.", hint="A stage was sent to the wrong queue.")
    context = LocalContext(
        output=Path(work.output),
        checkpoint=Path(work.checkpoint),
        inputs={role: Path(folder) for role, folder in work.inputs.items()},
        on_progress=sender.put,
        stop=stop,
    )
    forget_peak()
    result = _finite_result(functions[kind](work.parameters, context))
    cost = result.cost.model_copy(update={"peak_memory_bytes": peak_bytes()})
    return Finished(result=result.model_copy(update={"cost": cost}))


def _end_log(log_end: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # Written to the descriptor, because a library may have replaced sys.stdout.
    os.write(1, f"\n{log_end}\n".encode())


def _failure(error: Exception) -> Failed:
    known = error_of(error)
    if not isinstance(error, CraftError):
        traceback.print_exception(error)
    # After a lack of memory or a defect the state of the process is unknown.
    return Failed(error=StageError.of(known), reusable=known.fault is Fault.USER)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The finite values: JSON has neither NaN nor infinities."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _finite_progress(progress: StageProgress) -> StageProgress:
    return progress.model_copy(update={"metrics": _finite(progress.metrics)})


def _finite_result(result: StageResult) -> StageResult:
    metrics = _finite(result.metrics)
    notes = [f"The metric {name} was not a finite number." for name in result.metrics if name not in metrics]
    return result.model_copy(update={"metrics": metrics, "notes": [*result.notes, *notes]})


def _start_reaper(lifeline: int, *, others: Sequence[int]) -> None:
    """Fork a process that waits until the worker's end of the lifeline closes, and then kills this process group.

    The kernel's death signal reaches this process only, and not the processes that a stage starts. A thread of this
    process could not act while a stage holds the interpreter's lock.
    """
    if os.fork():
        os.close(lifeline)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in others:
        os.close(descriptor)
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _receive(channel: Channel, inbox: "queue.SimpleQueue[RunStage]") -> None:
    while frame := channel.receive():
        inbox.put(RunStage.model_validate_json(frame))
    # The parent is gone or has closed the channel. The stage's own processes are in our group and end with us.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
