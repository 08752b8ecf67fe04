"""What goes wrong and when: the same seed gives the same kinds after the same pauses."""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple


class Fault(StrEnum):
    """A kind of trouble, by the words of the result's table."""

    WORKER_KILLED = "worker: SIGKILL"
    CHILD_KILLED = "worker's child: SIGKILL, SIGSEGV"
    WORKER_TERMINATED = "worker: SIGTERM within a stage"
    WORKER_FROZEN = "worker: SIGSTOP past its lease"
    CLOCK_SKEWED = "worker: clock 2 h off"
    COORDINATOR_KILLED = "coordinator: SIGKILL"
    COORDINATOR_FROZEN = "coordinator: SIGSTOP"
    COORDINATORS_FROZEN = "all coordinators: SIGSTOP past leases"
    GATEWAY_KILLED = "gateway: SIGKILL"
    ALL_KILLED = "everything but the database: SIGKILL"
    BROKER_KILLED = "broker: SIGKILL, back empty"
    BROKER_FLUSHED = "broker: FLUSHALL"
    BROKER_FROZEN = "broker: SIGSTOP"
    CONNECTIONS_CUT = "broker: all connections cut"
    HINTS_DOUBLED = "messages: each twice and more"
    HINTS_FORGED = "messages: forged and garbage"
    DISK_FULL = "artifacts: disk full"
    DATABASE_CRASHED = "database: crash"
    DATABASE_LOCKED = "database: locked past leases"


RARE = frozenset({Fault.ALL_KILLED, Fault.DISK_FULL})
"""In every other round only: after them a run has little to hurt for a while."""


class Moment(NamedTuple):
    """A fault, and the pause before it."""

    pause_seconds: float
    fault: Fault


def schedule(rng: random.Random, kinds: Sequence[Fault], *, count: int, mean_seconds: float) -> Iterator[Moment]:
    """`count` moments in rounds: every kind comes before any kind comes again, each round in an order of its own."""
    given = 0
    rounds = 0
    while given < count:
        round_ = [kind for kind in kinds if rounds % 2 == 0 or kind not in RARE]
        rng.shuffle(round_)
        for fault in round_[: count - given]:
            yield Moment(rng.uniform(0.5, 1.5) * mean_seconds, fault)
            given += 1
        rounds += 1
