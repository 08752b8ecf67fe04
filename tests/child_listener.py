"""A listener to a stage's child process that keeps what the child tells."""

import queue

from craft.contracts.stages.claims import StageProgress
from craft.infra.worker.child_process import ChildOutcome


class ChildListener:
    """Keeps a child's steps, log lines and outcome."""

    def __init__(self) -> None:
        self.steps: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[ChildOutcome] = queue.SimpleQueue()
        self.lines: list[str] = []

    def on_progress(self, progress: StageProgress) -> None:
        self.steps.put(progress.done)

    def on_log(self, line: str) -> None:
        self.lines.append(line)

    def on_outcome(self, outcome: ChildOutcome) -> None:
        self.outcomes.put(outcome)
