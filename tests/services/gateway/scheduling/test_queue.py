"""A snapshot of the queues is made seldom, however many ask, and nobody waits for it longer than needed."""

import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import QueuePool
from tests.services.gateway.rigs.world import World

from craft.contracts.stages.claims import Claim
from craft_gateway.scheduling.queue import DeviceOwner, QueueSnapshot, QueueSnapshots

PATIENCE_SECONDS = 20.0


class Watched:
    """Snapshots with a clock that tests move; `looks` counts how often one was made, which `gate` may block."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 0.0
        self.looks = 0
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.snapshots = QueueSnapshots(has_space=self._look, clock=lambda: self.now)

    def ask(self) -> QueueSnapshot:
        with self.world.database.read() as session:
            return self.snapshots.current(session, self.world.clock)

    def _look(self) -> bool:
        self.looks += 1
        self.begun.set()
        assert self.gate.wait(PATIENCE_SECONDS)
        return True


def test_a_snapshot_is_made_once_a_second_at_most(world: World) -> None:
    watched = Watched(world)
    first = world.create(seed=1)
    seen = watched.ask()
    second = world.create(seed=2)
    watched.now = 0.9
    assert watched.ask() is seen
    watched.now = 1.1
    assert set(seen.positions) == {first}
    assert {job: place.ahead for job, place in watched.ask().positions.items()} == {first: 0, second: 1}
    assert watched.looks == 2


def test_while_one_caller_makes_a_new_one_others_use_the_one_before(world: World) -> None:
    watched = Watched(world)
    world.create(seed=1)
    before = watched.ask()
    watched.now = 1.5
    watched.begun.clear()
    watched.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(watched.ask)
        assert watched.begun.wait(PATIENCE_SECONDS)
        assert watched.ask() is before
        watched.gate.set()
        assert busy.result() is not before
    assert watched.ask() is busy.result()


def test_an_old_snapshot_is_never_shown(world: World) -> None:
    watched = Watched(world)
    world.create(seed=1)
    before = watched.ask()
    watched.now = 60.0
    watched.begun.clear()
    watched.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(watched.ask)
        assert watched.begun.wait(PATIENCE_SECONDS)
        other = pool.submit(watched.ask)
        watched.gate.set()
        assert other.result() is busy.result() is not before
    assert watched.looks == 2


def test_without_history_the_start_is_unknown(world: World) -> None:
    running, waiting = world.create(seed=1), world.create(seed=2)
    watched = Watched(world)
    world.claim(running, "ingest")
    # How long such a stage takes was never seen: its worker may be busy for a second or for hours.
    assert watched.ask().positions[waiting].estimated_start_at is None


def test_it_comes_although_callers_that_wait_for_it_have_every_connection(world: World) -> None:
    watched = Watched(world)
    world.create(seed=1)
    pool = world.database.engine.pool
    assert isinstance(pool, QueuePool)
    most = pool.size() + 10  # what SQLAlchemy adds where a pool is all in use
    connected = threading.Barrier(most + 1)

    def ask_with_a_connection() -> QueueSnapshot:
        with world.database.read() as session:
            session.connection()
            connected.wait(PATIENCE_SECONDS)
            assert begun.wait(PATIENCE_SECONDS)
            return watched.snapshots.current(session, world.clock)

    begun = threading.Event()
    with ThreadPoolExecutor(most + 1) as callers:
        waiting = [callers.submit(ask_with_a_connection) for _ in range(most)]
        connected.wait(PATIENCE_SECONDS)
        without = callers.submit(watched.ask)
        # It would begin now, with the lock and without a connection.
        watched.begun.wait(0.5)
        begun.set()
        snapshots = [caller.result(PATIENCE_SECONDS) for caller in [*waiting, without]]
    assert all(snapshot is snapshots[0] for snapshot in snapshots)


def test_it_names_the_stage_that_has_had_a_device_for_longest(world: World) -> None:
    watched = Watched(world)
    jobs = [world.create(seed=seed) for seed in (1, 2)]
    assert watched.ask().device_owner is None
    for number, job_id in enumerate(jobs):
        stage = world.stage(job_id, "ingest")
        assert world.calls.claim(stage.id, Claim(owner=f"w{number}", service=stage.queue, device=f"gpu{number}"))
        world.clock.advance(1.0)
    watched.now = 2.0
    assert watched.ask().device_owner == DeviceOwner("gpu0", "ingest", jobs[0], None, "default")
