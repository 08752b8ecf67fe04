"""A server that can sleep sleeps while another stage has the device, wakes before use, and is missed by nobody."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx
import pytest
from tests.services.inference.rigs.supervisor_rig import Rig, a_while, in_a_loop, until

from craft.contracts.services.model_server import ServerState
from craft.errors import DeviceBusy, NotFound
from craft_inference.model_server.memory.hand_over import Memory, host_free_bytes, memory_for, sleeps
from craft_inference.model_server.server_fake import FakeServer

GIB = 2**30


def sleeper() -> FakeServer:
    server = FakeServer()
    server.can_sleep = True
    return server


def rig_of(make: Callable[[], FakeServer] = sleeper, *, idle_seconds: float = 600.0) -> Rig:
    rig = Rig(idle_seconds=idle_seconds)
    rig.make = make
    return rig


@in_a_loop
async def test_a_released_server_sleeps_and_the_next_lease_wakes_it() -> None:
    rig = rig_of()
    lease = await rig.lease()
    view = await rig.supervisor.release_device()
    assert (view.state, view.leases) == (ServerState.SLEEPING, 0)
    assert not rig.servers[0].awake
    with pytest.raises(NotFound):
        await rig.ask(lease)
    assert await rig.ask(await rig.lease()) == 200
    assert (len(rig.servers), rig.servers[0].naps, rig.supervisor.view().starts) == (1, 1, 1)


@in_a_loop
async def test_a_server_that_cannot_sleep_is_stopped() -> None:
    rig = rig_of(FakeServer)
    await rig.lease()
    assert (await rig.supervisor.release_device()).state is ServerState.STOPPED
    assert rig.running == []


@in_a_loop
async def test_a_server_that_stays_answers_while_another_process_has_the_device() -> None:
    rig = Rig(stays=True)
    lease = await rig.lease()
    assert (await rig.supervisor.release_device()).state is ServerState.READY
    rig.free = False
    assert await rig.ask_as_user() == await rig.ask(lease) == 200
    assert len(rig.running) == 1


@in_a_loop
async def test_a_users_question_wakes_it_only_where_the_device_is_free() -> None:
    """A sleeping server that takes a request answers with an error, or takes memory that training has."""
    rig = rig_of()
    await rig.lease()
    await rig.supervisor.release_device()
    rig.free = False
    with pytest.raises(DeviceBusy):
        await rig.ask_as_user()
    assert not rig.servers[0].awake
    rig.free = True
    assert await rig.ask_as_user() == 200
    assert len(rig.servers) == 1


@in_a_loop
async def test_another_base_or_more_context_stops_the_sleeper_first() -> None:
    for name, context in (("b", None), ("a", 8192)):
        rig = rig_of()
        await rig.lease("a")
        await rig.supervisor.release_device()
        assert await rig.ask(await rig.lease(name, context=context)) == 200
        assert [server.stops for server in rig.servers] == [1, 0]


@in_a_loop
async def test_a_sleeper_that_died_or_does_not_wake_is_started_anew() -> None:
    for harm in ("alive", "oversleeps"):
        rig = rig_of()
        await rig.lease()
        await rig.supervisor.release_device()
        setattr(rig.servers[0], harm, harm == "oversleeps")
        assert await rig.ask(await rig.lease()) == 200
        assert [server.stops for server in rig.servers] == [1, 0]


@in_a_loop
async def test_the_watch_takes_a_dead_sleeper_away_and_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="craft.model_server")
    rig = rig_of()
    await rig.lease()
    await rig.supervisor.release_device()
    with rig.watched():
        rig.servers[0].alive = False
        await until(lambda: rig.supervisor.view().state is ServerState.STOPPED)
        await a_while()
    assert len(rig.servers) == 1
    assert "server_died" in caplog.text


@in_a_loop
async def test_a_sleeper_outlasts_the_idle_time_but_not_its_own() -> None:
    """The idle time would end it during the first long training, which is when it is of use."""
    rig = rig_of(idle_seconds=600.0)
    await rig.lease()
    await rig.supervisor.release_device()
    with rig.watched():
        rig.now += 3000
        await a_while()
        assert rig.supervisor.view().state is ServerState.SLEEPING
        rig.now += 700
        await until(lambda: rig.supervisor.view().state is ServerState.STOPPED)


@in_a_loop
async def test_a_second_release_leaves_it_asleep() -> None:
    rig = rig_of()
    await rig.lease()
    await rig.supervisor.release_device()
    assert (await rig.supervisor.release_device()).state is ServerState.SLEEPING
    assert (rig.servers[0].naps, rig.servers[0].stops) == (1, 0)


@in_a_loop
async def test_a_server_that_does_not_fall_asleep_is_stopped() -> None:
    class Sleepless(FakeServer):
        async def sleep(self) -> None:
            self.can_sleep = False
            await super().sleep()

    def make() -> FakeServer:
        server = Sleepless()
        server.can_sleep = True
        return server

    rig = rig_of(make)
    await rig.lease()
    assert (await rig.supervisor.release_device()).state is ServerState.STOPPED


@in_a_loop
async def test_replies_that_do_not_end_are_broken_off_and_not_cut_short() -> None:
    """Sleep aborts them: what a user then gets looks like a whole reply."""
    never = asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(200)

    def make() -> FakeServer:
        server = FakeServer(hang)
        server.can_sleep = True
        return server

    rig = rig_of(make)
    asking = asyncio.create_task(rig.ask_as_user())
    await until(lambda: rig.supervisor.view().in_flight == 1)
    releasing = asyncio.create_task(rig.supervisor.release_device())
    await a_while()
    rig.now += 31
    assert (await releasing).state is ServerState.STOPPED
    assert rig.servers[0].naps == 0
    asking.cancel()


@in_a_loop
async def test_nobody_asks_a_server_while_it_falls_asleep() -> None:
    """Its state changes before it does: a request in between would be aborted."""
    falling, fell = asyncio.Event(), asyncio.Event()

    class Slow(FakeServer):
        async def sleep(self) -> None:
            self.awake = False
            falling.set()
            await fell.wait()

    def make() -> FakeServer:
        server = Slow()
        server.can_sleep = True
        return server

    rig = rig_of(make)
    await rig.lease()
    releasing = asyncio.create_task(rig.supervisor.release_device())
    await falling.wait()
    asking = asyncio.create_task(rig.ask_as_user())
    await a_while()
    assert not asking.done()
    fell.set()
    await releasing
    assert await asking == 200


LARGE = Memory(gpu=80 * GIB, host_free=100 * GIB, weights=16 * GIB)


@pytest.mark.parametrize(
    ("setting", "memory", "expected"),
    [
        ("auto", LARGE, True),
        ("auto", Memory(gpu=24 * GIB, host_free=100 * GIB, weights=16 * GIB), False),
        ("auto", Memory(gpu=80 * GIB, host_free=18 * GIB, weights=16 * GIB), False),
        ("auto", Memory(gpu=None, host_free=100 * GIB, weights=16 * GIB), False),
        ("auto", Memory(gpu=80 * GIB, host_free=None, weights=16 * GIB), False),
        ("sleep", Memory(gpu=24 * GIB, host_free=None, weights=16 * GIB), True),
        ("stop", LARGE, False),
        ("stay", LARGE, False),
    ],
)
def test_a_large_gpu_and_a_roomy_host_let_it_sleep(
    setting: Literal["auto", "sleep", "stop", "stay"], memory: Memory, expected: bool
) -> None:
    assert sleeps(setting, memory, on_cpu=False, shares_device=True) is expected
    assert not sleeps(setting, memory, on_cpu=True, shares_device=True)
    assert not sleeps(setting, memory, on_cpu=False, shares_device=False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 9 * GIB),
        ({"memory.max": "max\n", "memory.stat": "anon 1\nshmem 0\n"}, 9 * GIB),
        ({"memory.max": str(6 * GIB), "memory.stat": f"anon {GIB}\nfile {4 * GIB}\nshmem {GIB}\n"}, 4 * GIB),
        ({"memory.max": str(60 * GIB), "memory.stat": "anon 0\nshmem 0\n"}, 9 * GIB),
    ],
)
def test_a_containers_limit_counts_and_files_that_it_read_do_not(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {9 * 2**20} kB\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text)
    assert host_free_bytes(tmp_path) == expected
    assert host_free_bytes(tmp_path / "nowhere") is None


def test_the_smallest_gpu_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    tool = tmp_path / "nvidia-smi"
    tool.touch()
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    tool.write_text("#!/bin/sh\necho 143771\necho 24564\n")
    found = memory_for(tmp_path)
    assert (found.gpu, found.weights) == (24564 * 2**20, 10)
    tool.write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    assert memory_for(tmp_path).gpu is None
    monkeypatch.setenv("PATH", "")
    assert memory_for(tmp_path).gpu is None
