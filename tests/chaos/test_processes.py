"""Each fault of processes, messages and clocks once and on purpose: real coordinators, real workers, a real Valkey."""

import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
import redis
from tests.chaos.faults.faults import skew_library, skewed
from tests.chaos.rig.databases import SqliteFile
from tests.chaos.rig.processes import Part
from tests.chaos.rig.small import RULES, Small, small

from craft.contracts.stages.kinds import Service
from craft.infra.broker.celery import send_stage

QUEUE = "craft:datasets"
READY_AGAIN_SECONDS = RULES.lease_seconds + 2.0
"""A lease, the reaper's round, a hint and a claim."""
SILENT_SECONDS = 35.0
"""Longer than the broker's health check interval, after which a connection counts as dead."""
OUTLASTED = timedelta(seconds=2 * RULES.lease_seconds)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    state = tmp_path_factory.mktemp("small")
    with small(state / "state", SqliteFile(state / "state")) as made:
        yield made


def test_a_killed_workers_stage_goes_to_another_worker_within_its_lease_and_goes_on_there(system: Small) -> None:
    stage_id = system.submit()
    victim = system.begun(stage_id)
    child = victim.child
    lease = lease_of(system, stage_id)
    victim.kill()
    heir = system.begun(stage_id, attempts=2)
    assert heir is not victim
    _, again = system.attempts(stage_id)
    # The lease that was seen may have been renewed once more before the kill.
    assert (again.started_at - lease).total_seconds() < READY_AGAIN_SECONDS - RULES.lease_seconds + RULES.beat_seconds
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["failed", "succeeded"]
    text = (system.store.open(ref) / "text").read_text() if (ref := system.stage(stage_id).artifact) else ""
    assert text.endswith("after 1")


@pytest.mark.parametrize("family", [True, False], ids=["worker and child", "worker alone"])
def test_a_zombie_changes_nothing_and_ends_its_own_work(system: Small, family: bool) -> None:
    stage_id = system.submit()
    zombie = system.begun(stage_id)
    zombie.freeze(family=family)
    heir = system.begun(stage_id, attempts=2)
    assert heir is not zombie
    assert system.succeeded(stage_id)
    artifact = system.stage(stage_id).artifact
    zombie.thaw()
    # The work that it wakes up with is thrown away, and it is of use again.
    heir.kill()
    later = system.submit()
    assert system.begun(later) is zombie
    assert system.succeeded(later)
    assert system.outcomes(stage_id) == ["failed", "succeeded"]
    assert system.stage(stage_id).artifact == artifact
    assert len(list((system.state / "artifacts" / "artifacts").glob(f"{system.stage(stage_id).key}-*"))) == 1


def killed(system: Small, coordinator: Part) -> None:
    coordinator.kill()


def silenced(system: Small, coordinator: Part) -> None:
    """Stopped while it does not hold SQLite's lock: with it, it would silence the other coordinator too."""
    for _ in range(100):
        coordinator.freeze(family=False)
        try:
            system.server.lock()()
        except sqlite3.OperationalError:
            coordinator.thaw()
        else:
            return
    raise AssertionError("It held the lock each time.")


@pytest.mark.parametrize("cut", [killed, silenced])
def test_a_worker_whose_coordinator_is_gone_ends_its_child_and_the_other_ones_worker_takes_over(
    system: Small, cut: Callable[[Small, Part], None]
) -> None:
    stage_id = system.submit()
    cut_off = system.begun(stage_id)
    number = system.workers.index(cut_off)
    child = cut_off.child
    cut(system, system.coordinators[number])
    heir = system.begun(stage_id, attempts=2)
    assert heir is not cut_off
    system.until(lambda: not child.is_running())
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["failed", "succeeded"]
    assert system.stage(stage_id).attempt == 1


def test_when_everything_is_killed_the_stage_goes_on_once_everything_is_back(system: Small) -> None:
    stage_id = system.submit()
    system.begun(stage_id)
    for part in [*system.workers, *system.coordinators, system.broker.part]:
        part.kill()
    system.hold()
    system.broker.start()
    for part in [*system.coordinators, *system.workers]:
        part.start()
    system.begun(stage_id, attempts=2)
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["failed", "succeeded"]
    assert system.stage(stage_id).attempt == 1


def test_a_stage_whose_child_dies_each_time_ends_its_job_after_three_attempts(system: Small) -> None:
    stage_id = system.submit()
    system.doomed.add(system.stage(stage_id).job_id)
    for attempt in range(1, RULES.max_attempts + 1):
        worker = system.begun(stage_id, attempts=attempt)
        worker.child.send_signal(signal.SIGSEGV)
    system.until(lambda: system.job(stage_id).status.terminal)
    error = system.job(stage_id).error or {}
    assert system.outcomes(stage_id) == ["failed"] * RULES.max_attempts
    assert (error["code"], error["exit_signal"], error["attempt"]) == ("worker_lost", signal.SIGSEGV, 3)


def lease_of(system: Small, stage_id: str) -> datetime:
    """Until when the stage is its worker's."""
    lease = system.stage(stage_id).lease_expires_at
    assert lease is not None
    return lease


def idle(system: Small) -> Callable[[], None]:
    """Nobody reads the queue until the returned function is called."""
    for worker in system.workers:
        worker.freeze(family=True)

    def wake() -> None:
        for worker in system.workers:
            worker.thaw()

    return wake


@pytest.mark.parametrize("lost", ["flushed", "killed"])
def test_hints_that_the_broker_loses_are_sent_again(system: Small, lost: str) -> None:
    wake = idle(system)
    stage_id = system.submit()
    system.until(lambda: bool(system.broker.client.llen(QUEUE)))
    if lost == "flushed":
        system.broker.flush()
    else:
        system.broker.part.kill()
        system.broker.start()
    wake()
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["succeeded"]


def test_a_broker_without_memory_delays_and_loses_nothing(system: Small) -> None:
    client = system.broker.client
    full = int(client.info("memory")["used_memory"]) // 2
    client.config_set("maxmemory", full)
    try:
        stage_id = system.submit()
        with pytest.raises(redis.ResponseError):
            client.lpush("craft:test", "x")
    finally:
        client.config_set("maxmemory", 0)
    assert system.succeeded(stage_id)


def test_cut_connections_are_made_again(system: Small) -> None:
    stages = []
    for _ in range(3):
        system.broker.cut_connections()
        stages.append(system.submit())
    assert all(system.succeeded(stage_id) for stage_id in stages)


def test_workers_that_waited_on_a_silent_broker_do_the_next_hints(system: Small) -> None:
    before = [worker.pid for worker in system.workers]
    system.broker.freeze()
    threading.Event().wait(SILENT_SECONDS)
    system.broker.thaw()
    stages = [system.submit(), system.submit()]
    assert {system.begun(stage_id) for stage_id in stages} == set(system.workers)
    assert [worker.pid for worker in system.workers if worker.alive] == before
    assert all(system.succeeded(stage_id) for stage_id in stages)


def test_hints_sent_many_times_start_one_attempt(system: Small) -> None:
    wake = idle(system)
    stage_id = system.submit()
    for _ in range(20):
        send_stage(system.broker.sender, Service.DATASETS, stage_id)
    system.hold()
    wake()
    system.begun(stage_id)
    # The other worker reads the rest while this one is at work.
    system.until(lambda: system.broker.client.llen(QUEUE) == 0)
    assert system.outcomes(stage_id) == ["running"]
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["succeeded"]


def test_forged_messages_change_nothing(system: Small) -> None:
    stage_id = system.submit()
    system.begun(stage_id)
    fence = system.stage(stage_id).fence
    for seed in range(3):
        system.broker.forge(random.Random(seed), [(Service.DATASETS, stage_id)])
    system.until(lambda: system.broker.client.llen(QUEUE) == 0)
    assert (system.stage(stage_id).status, system.stage(stage_id).fence) == ("running", fence)
    assert system.succeeded(stage_id)
    assert system.outcomes(stage_id) == ["succeeded"]


@pytest.mark.parametrize("garbage", [b"\xff\xfe not a message", b"{}", b"[1, 2", b'{"body": "x"}', b"x" * 1_000_000])
def test_bytes_that_are_no_message_are_dropped(system: Small, garbage: bytes) -> None:
    system.broker.client.rpush(QUEUE, garbage)
    stage_id = system.submit()
    assert system.succeeded(stage_id)
    assert system.broker.client.llen(QUEUE) == 0
    assert all(worker.alive for worker in system.workers)


@pytest.mark.skipif(skew_library() is None, reason="libfaketime is not installed")
def test_workers_whose_clocks_are_wrong_keep_their_leases(system: Small) -> None:
    library = skew_library()
    assert library is not None
    for worker, skew in zip(system.workers, ("+2h", "-2h"), strict=True):
        worker.kill()
        worker.start(**skewed(library, skew))
    stages = [system.submit(), system.submit()]
    first = {stage_id: lease_of(system, stage_id) for stage_id in stages if system.begun(stage_id)}
    system.until(lambda: all(lease_of(system, stage_id) - lease > OUTLASTED for stage_id, lease in first.items()))
    for stage_id in stages:
        assert system.succeeded(stage_id)
        assert system.outcomes(stage_id) == ["succeeded"]
    for worker in system.workers:
        worker.kill()


def test_the_state_folder_holds_no_scratch_of_stages_that_ended_well(system: Small) -> None:
    stage_id = system.submit()
    assert system.succeeded(stage_id)
    scratch = Path(system.state, "artifacts", "tmp")
    assert not list(scratch.glob(f"{stage_id}-*"))
