"""Where faults happen: the running system, what is to happen later, and what was done so far."""

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.chaos.faults.schedule import Fault
from tests.chaos.rig.disks import SmallDisk
from tests.chaos.rig.look import Look, Running
from tests.chaos.rig.system import Rules, System, Worker

_TICK_SECONDS = 0.05
_VICTIM_SECONDS = 4.0
_CALM_SECONDS = 60.0


class Victim(NamedTuple):
    """A claim that a fault ended."""

    stage_id: str
    fence: int


class Hit(NamedTuple):
    """What a fault was done to, and whose claims it must have ended."""

    target: str
    victims: tuple[Victim, ...] = ()


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was done, and the jobs that were under way."""

    fault: Fault
    at: datetime
    hit: Hit
    jobs: frozenset[str]


@dataclass
class Scene:
    """`skew` is the library that bends a process's clock, where this machine has it."""

    system: System
    look: Look
    rng: random.Random
    rules: Rules
    disk: SmallDisk
    skew: Path | None
    done: list[Injected] = field(default_factory=list)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this in so many seconds, while other things go on."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._count), action))

    def tick(self) -> None:
        """Do what is due and start again what is dead."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        self.system.tend(lambda: self.rng.uniform(0.2, 1.5))
        time.sleep(_TICK_SECONDS)

    def run_for(self, seconds: float) -> None:
        """Let the system work."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tick()

    def calm(self) -> None:
        """Let everything that was announced happen, and everything that is dead come back, within a minute."""
        until = time.monotonic() + _CALM_SECONDS
        while time.monotonic() < until and (self._later or not all(part.alive for part in self.system.parts)):
            self.tick()

    def busy_worker(self) -> tuple[Worker, tuple[Victim, ...]]:
        """A worker within a stage, and the stage; after some patience any worker without one.

        A stage whose workers died up to the cap is given up on by design. So the last worker that it may have is
        spared: only an outage, a message or a disk could bring it to the cap now, and none of these may.
        """
        until = time.monotonic() + _VICTIM_SECONDS
        while time.monotonic() < until:
            owned = [(stage, worker) for stage in self.look.running() for worker in self._owners(stage)]
            busy = [
                (worker, (Victim(stage.stage_id, stage.fence),))
                for stage, worker in owned
                if stage.lost_attempts < self.rules.max_attempts - 1
            ]
            if busy:
                return self.rng.choice(busy)
            self.tick()
        at_work = {worker.name for stage in self.look.running() for worker in self._owners(stage)}
        idle = [worker for worker in self.free_workers() if worker.name not in at_work]
        return self.rng.choice(idle or [worker for worker in self.system.workers if worker.name not in at_work]), ()

    def _owners(self, stage: Running) -> list[Worker]:
        return [worker for worker in self.free_workers() if worker.owns(stage.owner)]

    def free_workers(self) -> list[Worker]:
        """Those that live and that no SIGSTOP holds."""
        return [worker for worker in self.system.workers if worker.alive and not worker.frozen]

    def victims(self) -> tuple[Victim, ...]:
        """Every claim of now."""
        return tuple(Victim(stage.stage_id, stage.fence) for stage in self.look.running())

    def note(self, fault: Fault, inject: Callable[["Scene"], Hit]) -> Injected:
        """Inject the fault and put it on record."""
        jobs = self.look.open_jobs() or frozenset()
        hit = inject(self)
        injected = Injected(fault, datetime.now(UTC), hit, jobs)
        self.done.append(injected)
        return injected
