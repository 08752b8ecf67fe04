"""The supervisor runs one server at a time and starts, swaps, restarts and stops it."""

import asyncio
import logging

import httpx
import pytest
from tests.services.inference.rigs.supervisor_rig import Rig, a_while, base, in_a_loop, until

from craft.contracts.services.model_server import ModelLeaseRequest, ServedTokens, ServerState
from craft.errors import CraftError, DeviceBusy, GpuOutOfMemory, ModelNotFound, NotFound, Unavailable
from craft_inference.model_server.server_fake import VERSION, FakeServer


class Blocked:
    """Makes servers whose completions wait until `answer` is set."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()

    def __call__(self) -> FakeServer:
        return FakeServer(self._wait)

    async def _wait(self, request: httpx.Request) -> httpx.Response:
        await self.answer.wait()
        return httpx.Response(200, json={})


def stillborn(error: CraftError) -> FakeServer:
    server = FakeServer()
    server.alive, server.ended = False, error
    return server


def unready() -> FakeServer:
    server = FakeServer()
    server.gets_ready = False
    return server


@in_a_loop
async def test_a_lease_starts_the_server_and_has_its_version() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    assert lease.version == VERSION
    view = rig.supervisor.view()
    assert (view.state, view.base, view.starts, view.leases) == (ServerState.READY, base("a"), 1, 1)
    assert await rig.ask(lease) == 200


@in_a_loop
async def test_leases_of_one_base_share_one_server() -> None:
    rig = Rig()
    leases = await asyncio.gather(*(rig.lease("a") for _ in range(5)))
    assert len({lease.id for lease in leases}) == 5
    assert len(rig.servers) == 1
    assert rig.supervisor.view().leases == 5


@in_a_loop
async def test_another_dtype_is_another_server() -> None:
    rig = Rig()
    rig.supervisor.end_lease((await rig.lease("a")).id)
    async with rig.supervisor.client_for(base("a").model_copy(update={"dtype": "bfloat16"})):
        assert [served.dtype for served in rig.bases] == ["float32", "bfloat16"]


@in_a_loop
async def test_a_server_that_takes_adapters_does_without_them_too_but_not_the_other_way_round() -> None:
    rig = Rig()
    plain = ModelLeaseRequest(base=base("a").model_copy(update={"adapters": False}), has_device=True)
    rig.supervisor.end_lease((await rig.supervisor.lease(plain)).id)
    await rig.ask_as_user("a")
    await rig.supervisor.lease(plain)
    assert [served.adapters for served in rig.bases] == [False, True]


@in_a_loop
async def test_a_lease_starts_what_its_base_is_widened_to() -> None:
    rig = Rig(as_served=lambda served: served.model_copy(update={"adapters": True}))
    plain = base("a").model_copy(update={"adapters": False})
    await rig.supervisor.lease(ModelLeaseRequest(base=plain, has_device=True))
    await rig.ask_as_user("a")
    assert [served.adapters for served in rig.bases] == [True]


@in_a_loop
async def test_a_second_base_waits_for_the_leases_of_the_first() -> None:
    rig = Rig()
    first, second = await rig.lease("a"), await rig.lease("a")
    other = rig.leasing("b")
    await a_while()
    rig.supervisor.end_lease(first.id)
    await a_while()
    assert not other.done()
    assert await rig.ask(second) == 200
    rig.supervisor.end_lease(second.id)
    await other
    assert rig.supervisor.view().base == base("b")
    assert [server.stops for server in rig.servers] == [1, 0]


@in_a_loop
async def test_a_second_base_waits_for_answers_under_way() -> None:
    rig = Rig()
    rig.make = blocked = Blocked()
    asking = asyncio.create_task(rig.ask_as_user("a"))
    await until(lambda: rig.supervisor.view().in_flight == 1)
    other = rig.leasing("b")
    await a_while()
    assert not other.done()
    blocked.answer.set()
    assert await asking == 200
    await other
    assert rig.supervisor.view().base == base("b")


@in_a_loop
async def test_a_second_base_finds_the_device_busy_after_its_wait() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    other = rig.leasing("b")
    await a_while()
    rig.now += 31
    with pytest.raises(DeviceBusy):
        await other
    assert await rig.ask(lease) == 200
    assert len(rig.servers) == 1


@in_a_loop
async def test_a_lease_without_the_device_locks_it_only_while_the_server_starts() -> None:
    rig = Rig()
    owners: list[int] = []

    def make() -> FakeServer:
        owners.append(rig.device_owners)
        return FakeServer()

    rig.make = make
    await rig.lease("a", has_device=False)
    assert (owners, rig.device_owners) == ([1], 0)


@in_a_loop
async def test_a_lease_without_the_device_starts_nothing_on_a_taken_one() -> None:
    rig = Rig()
    rig.free = False
    with pytest.raises(DeviceBusy):
        await rig.lease("a", has_device=False)
    assert rig.servers == []
    await rig.lease("a", has_device=True)
    assert rig.supervisor.view().base == base("a")


@in_a_loop
async def test_an_unused_lease_ends_after_a_minute() -> None:
    rig = Rig()
    used, unused = await rig.lease("a"), await rig.lease("a")
    with rig.watched():
        rig.now += 59
        assert await rig.ask(used) == 200
        rig.now += 2
        await until(lambda: rig.supervisor.view().leases == 1)
        assert await rig.ask(used) == 200
        with pytest.raises(NotFound):
            await rig.ask(unused)


@in_a_loop
async def test_an_answer_that_takes_minutes_keeps_its_lease() -> None:
    rig = Rig()
    rig.make = blocked = Blocked()
    lease = await rig.lease("a")
    with rig.watched():
        asking = asyncio.create_task(rig.ask(lease))
        await until(lambda: rig.supervisor.view().in_flight == 1)
        rig.now += 300
        await a_while()
        assert rig.supervisor.view().leases == 1
        blocked.answer.set()
        assert await asking == 200
        await a_while()
        assert await rig.ask(lease) == 200
        rig.now += 61
        await until(lambda: rig.supervisor.view().leases == 0)


@in_a_loop
async def test_ending_a_lease_twice_or_an_unknown_one_changes_nothing() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    rig.supervisor.end_lease("lease_unknown")
    rig.supervisor.end_lease(lease.id)
    rig.supervisor.end_lease(lease.id)
    assert rig.supervisor.view().state is ServerState.READY


@in_a_loop
async def test_a_release_ends_the_leases_and_returns_when_the_server_is_gone() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    view = await rig.supervisor.release_device()
    assert (view.state, view.leases, rig.servers[0].stops) == (ServerState.STOPPED, 0, 1)
    with pytest.raises(NotFound):
        await rig.ask(lease)
    assert (await rig.supervisor.release_device()).state is ServerState.STOPPED


@in_a_loop
async def test_a_release_lets_answers_end_for_half_a_minute_and_takes_no_new_questions() -> None:
    rig = Rig()
    rig.make = Blocked()
    asking = asyncio.create_task(rig.ask_as_user("a"))
    await until(lambda: rig.supervisor.view().in_flight == 1)
    releasing = asyncio.create_task(rig.supervisor.release_device())
    await a_while()
    assert not releasing.done()
    with pytest.raises(DeviceBusy):
        await rig.ask_as_user("a")
    rig.now += 31
    assert (await releasing).state is ServerState.STOPPED
    asking.cancel()


@in_a_loop
async def test_a_release_does_not_wait_for_a_model_that_is_being_loaded() -> None:
    rig = Rig()
    rig.make = unready
    loading = rig.leasing("a")
    await until(lambda: len(rig.servers) == 1)
    waiting = rig.leasing("b")
    await a_while()
    assert (await rig.supervisor.release_device()).state is ServerState.STOPPED
    for lease in (loading, waiting):
        with pytest.raises(DeviceBusy):
            await lease
    assert (rig.running, len(rig.servers)) == ([], 1)


@in_a_loop
async def test_a_user_starts_the_server_where_the_device_is_free() -> None:
    rig = Rig()
    assert await rig.ask_as_user("a") == 200
    assert await rig.ask_as_user("a") == 200
    assert (len(rig.servers), rig.device_owners) == (1, 0)


@in_a_loop
async def test_a_user_swaps_a_model_that_nobody_uses() -> None:
    rig = Rig()
    await rig.ask_as_user("a")
    assert await rig.ask_as_user("b") == 200
    assert [served.model.id for served in rig.bases] == ["team/a", "team/b"]


@in_a_loop
async def test_a_user_never_swaps_a_model_in_use() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    with pytest.raises(DeviceBusy):
        await rig.ask_as_user("b")
    assert await rig.ask(lease) == 200
    assert await rig.ask_as_user("a") == 200
    assert len(rig.servers) == 1


@in_a_loop
async def test_a_user_never_starts_a_server_while_the_device_is_taken() -> None:
    rig = Rig()
    rig.free = False
    with pytest.raises(DeviceBusy):
        await rig.ask_as_user("a")
    assert (rig.servers, rig.supervisor.view().state) == ([], ServerState.STOPPED)


@in_a_loop
async def test_users_of_a_model_that_is_being_loaded_wait_for_it() -> None:
    rig = Rig()
    rig.make = unready
    asking = [asyncio.create_task(rig.ask_as_user("a")) for _ in range(3)]
    await until(lambda: len(rig.servers) == 1)
    rig.servers[0].gets_ready = True
    assert await asyncio.gather(*asking) == [200, 200, 200]
    assert len(rig.servers) == 1


@in_a_loop
async def test_a_dead_server_is_restarted_under_its_leases() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    with rig.watched():
        rig.servers[0].alive = False
        assert await rig.ask(lease) == 200
    assert [len(server.requests) for server in rig.servers] == [0, 1]
    assert rig.servers[0].stops == 1
    assert rig.supervisor.view().last_error == "It is gone."


@in_a_loop
async def test_a_dead_server_without_leases_stays_stopped() -> None:
    rig = Rig()
    rig.supervisor.end_lease((await rig.lease("a")).id)
    with rig.watched():
        rig.servers[0].alive = False
        await until(lambda: rig.supervisor.view().state is ServerState.STOPPED)
        await a_while()
    assert len(rig.servers) == 1


@in_a_loop
async def test_a_server_that_dies_again_and_again_is_started_three_times_more() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    with rig.watched():
        for count in range(4):
            await until(lambda count=count: len(rig.servers) == count + 1)  # type: ignore[misc]
            await until(lambda: rig.supervisor.view().state is ServerState.READY)
            rig.servers[-1].alive = False
        await until(lambda: rig.supervisor.view().leases == 0)
        with pytest.raises(NotFound):
            await rig.ask(lease)
    assert len(rig.servers) == 4
    rig.make = lambda: stillborn(GpuOutOfMemory("no room"))
    with pytest.raises(GpuOutOfMemory):
        await rig.lease("a")


@in_a_loop
async def test_an_answer_in_between_starts_the_count_of_deaths_anew() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    with rig.watched():
        for count in range(6):
            rig.servers[-1].alive = False
            assert await rig.ask(lease) == 200
            assert len(rig.servers) == count + 2


@in_a_loop
async def test_a_server_that_cannot_be_restarted_ends_its_leases_and_the_next_lease_says_why() -> None:
    rig = Rig()
    lease = await rig.lease("a")
    rig.make = lambda: stillborn(GpuOutOfMemory("no room"))
    with rig.watched():
        rig.servers[0].alive = False
        with pytest.raises(NotFound):
            await rig.ask(lease)
    assert rig.supervisor.view().last_error == "no room"
    with pytest.raises(GpuOutOfMemory):
        await rig.lease("a")


@in_a_loop
async def test_a_server_that_never_gets_ready_is_stopped_and_says_so() -> None:
    rig = Rig(start_seconds=900)
    rig.make = unready
    leasing = rig.leasing("a")
    await until(lambda: len(rig.servers) == 1)
    assert rig.supervisor.view().state is ServerState.STARTING
    rig.now += 901
    with pytest.raises(Unavailable, match="not ready within 900 seconds"):
        await leasing
    view = rig.supervisor.view()
    assert (view.state, rig.servers[0].stops) == (ServerState.STOPPED, 1)
    assert view.last_error is not None
    assert "not ready" in view.last_error


@in_a_loop
async def test_a_server_that_ends_while_it_starts_says_why_and_frees_the_device() -> None:
    rig = Rig()
    rig.make = lambda: stillborn(GpuOutOfMemory("no room"))
    with pytest.raises(GpuOutOfMemory):
        await rig.lease("a", has_device=False)
    assert (rig.device_owners, rig.running, rig.supervisor.view().last_error) == (0, [], "no room")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ModelNotFound("It is gone."), ModelNotFound),
        (OSError("no such program"), Unavailable),
    ],
)
def test_what_cannot_even_be_begun_leaves_nothing_behind(raised: Exception, expected: type[CraftError]) -> None:
    @in_a_loop
    async def scenario() -> None:
        rig = Rig()

        def make() -> FakeServer:
            raise raised

        rig.make = make
        with pytest.raises(expected, match=str(raised)):
            await rig.lease("a")
        assert rig.supervisor.view().state is ServerState.STOPPED
        rig.make = FakeServer
        await rig.lease("b")

    scenario()


@in_a_loop
async def test_a_server_that_is_no_vllm_is_stopped_and_says_so() -> None:
    rig = Rig()

    def make() -> FakeServer:
        server = FakeServer()
        server.version = None
        return server

    rig.make = make
    with pytest.raises(Unavailable, match="not as vLLM does"):
        await rig.lease("a")
    assert rig.running == []


@in_a_loop
async def test_a_server_that_nobody_uses_is_stopped_when_its_time_is_up() -> None:
    rig = Rig(idle_seconds=600)
    with rig.watched():
        rig.supervisor.end_lease((await rig.lease("a")).id)
        rig.now += 599
        await a_while()
        assert rig.supervisor.view().state is ServerState.READY
        await rig.ask_as_user("a")
        rig.now += 599
        await a_while()
        assert rig.supervisor.view().state is ServerState.READY
        rig.now += 2
        await until(lambda: rig.supervisor.view().state is ServerState.STOPPED)
    assert rig.servers[0].stops == 1


@in_a_loop
async def test_a_server_that_answers_is_not_idle() -> None:
    rig = Rig(idle_seconds=600)
    rig.make = blocked = Blocked()
    with rig.watched():
        asking = asyncio.create_task(rig.ask_as_user("a"))
        await until(lambda: rig.supervisor.view().in_flight == 1)
        rig.now += 3600
        await a_while()
        assert rig.running
        blocked.answer.set()
        assert await asking == 200
        await a_while()
        assert rig.running


@in_a_loop
async def test_the_watch_survives_every_error(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    lease = await rig.lease("a")

    def make() -> FakeServer:
        raise RuntimeError("a defect")

    rig.make = make
    with rig.watched() as watching, caplog.at_level(logging.CRITICAL, logger="craft.model_server"):
        rig.servers[0].alive = False
        with pytest.raises(NotFound):
            await rig.ask(lease)
        assert not watching.done()
        rig.make = FakeServer
        again = await rig.lease("a")
        rig.servers[-1].alive = False
        assert await rig.ask(again) == 200


@in_a_loop
async def test_a_server_may_go_while_the_watch_waits_to_check_it(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(poll_seconds=0.0)  # the watch checks between any two steps of the other tasks
    rig.make = unready
    with rig.watched():
        lease = rig.leasing("a")
        await until(lambda: len(rig.servers) == 1)
        freed = [asyncio.create_task(rig.supervisor.release_device()) for _ in range(3)]
        await asyncio.gather(lease, *freed, return_exceptions=True)
        rig.make = FakeServer
        for _ in range(5):
            others = [rig.leasing("a"), asyncio.create_task(rig.supervisor.release_device())]
            await asyncio.gather(*others, return_exceptions=True)
    assert "watch_failed" not in [record.getMessage() for record in caplog.records]


@in_a_loop
async def test_tokens_are_the_servers_own_and_there_are_none_without_it() -> None:
    rig = Rig()
    with pytest.raises(Unavailable):
        await rig.supervisor.tokens()
    await rig.lease("a")
    rig.servers[0].prompt_tokens, rig.servers[0].cached_tokens = 100, 30
    assert await rig.supervisor.tokens() == ServedTokens(prompt=100, cached=30)
    rig.servers[0].alive = False
    with pytest.raises(Unavailable):
        await rig.supervisor.tokens()


@in_a_loop
async def test_closing_stops_the_server() -> None:
    rig = Rig()
    await rig.lease("a")
    await rig.supervisor.close()
    assert rig.running == []
