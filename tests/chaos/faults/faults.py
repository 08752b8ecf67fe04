"""How each kind of trouble is made. Each function makes it now, plans its end, and says what it hit."""

import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import psycopg
from tests.chaos.faults.schedule import Fault
from tests.chaos.rig.processes import path_with_workers
from tests.chaos.rig.scene import Hit, Scene

Inject = Callable[[Scene], Hit]

_SKEWS = ("+2h", "-2h")


def _worker_killed(scene: Scene) -> Hit:
    worker, victims = scene.busy_worker()
    worker.kill()
    return Hit(worker.name, victims)


def _child_killed(scene: Scene) -> Hit:
    worker, victims = scene.busy_worker()
    number = scene.rng.choice([signal.SIGKILL, signal.SIGSEGV])
    try:
        worker.child.send_signal(number)
    except (LookupError, psutil.NoSuchProcess):
        return Hit(f"{worker.name}, which had no child")
    return Hit(f"{worker.name}'s child, {number.name}", victims)


def _worker_terminated(scene: Scene) -> Hit:
    worker, victims = scene.busy_worker()
    worker.terminate()
    return Hit(worker.name, victims)


def _worker_frozen(scene: Scene) -> Hit:
    """Alone, so that its child works on, or with its child: both come back as zombies."""
    worker, victims = scene.busy_worker()
    whole = scene.rng.random() < 0.5
    worker.freeze(family=whole)
    scene.later(scene.rules.lease_seconds + scene.rng.uniform(1.0, 4.0), worker.thaw)
    return Hit(f"{worker.name}{' and its child' if whole else ''}", victims)


def _clock_skewed(scene: Scene) -> Hit:
    assert scene.skew is not None
    worker, victims = scene.busy_worker()
    worker.kill()
    skew = scene.rng.choice(_SKEWS)
    worker.start(**skewed(scene.skew, skew))
    return Hit(f"{worker.name} {skew}", victims)


def _coordinator_killed(scene: Scene) -> Hit:
    coordinator = scene.rng.choice(scene.system.coordinators)
    coordinator.kill()
    return Hit(coordinator.name)


def _coordinator_frozen(scene: Scene) -> Hit:
    """As a network that is cut: connections stay open and nothing answers."""
    coordinator = scene.rng.choice(scene.system.coordinators)
    coordinator.freeze(family=False)
    seconds = scene.rng.uniform(1.0, 2 * scene.rules.outage_seconds)
    scene.later(seconds, coordinator.thaw)
    return Hit(f"{coordinator.name} for {seconds:.0f} s")


def _coordinators_frozen(scene: Scene) -> Hit:
    """Longer than workers wait; sometimes longer than a lease."""
    seconds = _outage_seconds(scene)
    for coordinator in scene.system.coordinators:
        coordinator.freeze(family=False)
        scene.later(seconds, coordinator.thaw)
    return Hit(f"all of them for {seconds:.0f} s")


def _outage_seconds(scene: Scene) -> float:
    return scene.rng.uniform(1.0, 2.0) * scene.rules.outage_seconds


def _gateway_killed(scene: Scene) -> Hit:
    scene.system.gateway.kill()
    return Hit("gateway")


def _all_killed(scene: Scene) -> Hit:
    victims = scene.victims()
    for part in scene.system.parts:
        part.send(signal.SIGKILL)
    for part in scene.system.parts:
        part.kill()
    _broker_killed(scene)
    return Hit(f"{len(scene.system.parts)} processes and the broker", victims)


def _broker_killed(scene: Scene) -> Hit:
    scene.system.broker.part.kill()
    scene.later(scene.rng.uniform(0.2, 3.0), scene.system.broker.revive)
    return Hit("valkey")


def _broker_flushed(scene: Scene) -> Hit:
    scene.system.broker.flush()
    return Hit("valkey")


def _broker_frozen(scene: Scene) -> Hit:
    scene.system.broker.freeze()
    seconds = scene.rng.uniform(2.0, 12.0)
    scene.later(seconds, scene.system.broker.thaw)
    return Hit(f"valkey for {seconds:.0f} s")


def _connections_cut(scene: Scene) -> Hit:
    for seconds in range(3):
        scene.later(2.0 * seconds, scene.system.broker.cut_connections)
    return Hit("valkey")


def _hints_doubled(scene: Scene) -> Hit:
    for seconds in range(5):
        scene.later(seconds, lambda: scene.system.broker.repeat(scene.look.dispatchable()))
    return Hit("every queue for 5 s")


def _hints_forged(scene: Scene) -> Hit:
    scene.system.broker.forge(scene.rng, scene.look.dispatchable())
    scene.system.broker.spoil(scene.rng)
    return Hit("every queue")


def _disk_full(scene: Scene) -> Hit:
    seconds = scene.rng.uniform(2.0, 5.0)
    for tenth in range(0, int(seconds * 10), 3):
        scene.later(tenth / 10, scene.disk.fill)
    scene.later(seconds, scene.disk.free)
    return Hit(f"artifacts for {seconds:.0f} s")


def _database_crashed(scene: Scene) -> Hit:
    how = scene.system.database.crash(scene.rng)
    scene.later(scene.rng.uniform(0.1, 2.0), scene.system.database.start)
    return Hit(how)


def _database_locked(scene: Scene) -> Hit:
    seconds = _outage_seconds(scene)
    try:
        unlock = scene.system.database.lock()
    except (sqlite3.Error, psycopg.Error) as error:
        return Hit(f"nothing, for the lock was not to be had: {error}")
    scene.later(seconds, unlock)
    return Hit(f"for {seconds:.0f} s")


def skewed(library: Path, skew: str) -> dict[str, str]:
    """The environment of a process whose clock on the wall is off by so much."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": skew,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": path_with_workers(),
    }


def skew_library() -> Path | None:
    """libfaketime, where Debian's package `faketime` put it."""
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
    return found[0] if found else None


INJECT: Mapping[Fault, Inject] = {
    Fault.WORKER_KILLED: _worker_killed,
    Fault.CHILD_KILLED: _child_killed,
    Fault.WORKER_TERMINATED: _worker_terminated,
    Fault.WORKER_FROZEN: _worker_frozen,
    Fault.CLOCK_SKEWED: _clock_skewed,
    Fault.COORDINATOR_KILLED: _coordinator_killed,
    Fault.COORDINATOR_FROZEN: _coordinator_frozen,
    Fault.COORDINATORS_FROZEN: _coordinators_frozen,
    Fault.GATEWAY_KILLED: _gateway_killed,
    Fault.ALL_KILLED: _all_killed,
    Fault.BROKER_KILLED: _broker_killed,
    Fault.BROKER_FLUSHED: _broker_flushed,
    Fault.BROKER_FROZEN: _broker_frozen,
    Fault.CONNECTIONS_CUT: _connections_cut,
    Fault.HINTS_DOUBLED: _hints_doubled,
    Fault.HINTS_FORGED: _hints_forged,
    Fault.DISK_FULL: _disk_full,
    Fault.DATABASE_CRASHED: _database_crashed,
    Fault.DATABASE_LOCKED: _database_locked,
}
