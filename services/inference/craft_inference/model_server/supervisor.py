"""Decides which base model is served, and when its server is started, swapped, put to sleep, restarted or stopped."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import httpx

from craft.contracts.services.model_server import (
    ModelLease,
    ModelLeaseRequest,
    ServedBase,
    ServedTokens,
    ServerState,
    ServerView,
)
from craft.errors import CraftError, DeviceBusy, NotFound, Unavailable
from craft_inference.model_server.leases import Leases
from craft_inference.model_server.memory.context import Context
from craft_inference.model_server.server import Server, context_of, tokens_of, version_of

_MAX_RESTARTS = 3
_log = logging.getLogger("craft.model_server")
Start = Callable[[ServedBase, Context], Server]
"""Starts a server for the base model with this context. Raises ModelNotFound, ModelRejected, OSError."""
ChooseContext = Callable[[ServedBase, int | None], Context]
"""The context for a base model and a caller's need, None if it has none."""
AcquireDeviceIfFree = Callable[[], AbstractContextManager[bool]]
"""Takes the device lock for the length of a block, without waiting; the value says whether the lock was free."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The supervisor's waiting times.

    `start_seconds`: a server that is not ready by then has failed. `idle_seconds`: a server that is unused for so
    long is stopped, and `sleep_seconds` is the time for one that sleeps. `lease_seconds`: a lease that is not used for
    so long ends, because its holder must be dead. `wait_seconds`: a caller that needs another model, or the free
    device, waits so long for the present users. `poll_seconds`: the time between two checks.
    """

    start_seconds: float
    idle_seconds: float
    sleep_seconds: float = 3600.0
    lease_seconds: float = 60.0
    wait_seconds: float = 30.0
    poll_seconds: float = 0.25


class ServerSupervisor:
    """Runs at most one server at a time, on one event loop. `watch` must run as long as the supervisor is used.

    `as_served` may widen a base model that a caller wants, so that one server fits more callers. With `stays` the
    server keeps its memory while another process has the device: there is room for both.
    """

    def __init__(
        self,
        start: Start,
        *,
        acquire_device_if_free: AcquireDeviceIfFree,
        timeouts: Timeouts,
        as_served: Callable[[ServedBase], ServedBase] = lambda base: base,
        choose_context: ChooseContext = lambda _, needed: needed,
        stays: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._start = start
        self._as_served = as_served
        self._choose_context = choose_context
        self._acquire_device_if_free = acquire_device_if_free
        self._timeouts = timeouts
        self._stays = stays
        self._clock = clock
        self._transition = asyncio.Lock()
        self._server: Server | None = None
        self._base: ServedBase | None = None
        self._state = ServerState.STOPPED
        self._version = ""
        self._context_length: int | None = None
        self._leases = Leases(clock)
        self._in_flight = 0
        self._refusing = False  # new requests would keep the server busy while a caller waits for it to be unused
        self._releasing = 0
        self._used_at = clock()
        self._starts = self._restarts = 0
        self._since = datetime.now(UTC)
        self._last_error: str | None = None

    async def lease(self, request: ModelLeaseRequest) -> ModelLease:
        """Serve the base model, swapping another one or one with less context out when it is unused.

        Raises DeviceBusy if that takes too long or another process has the device, and all that starting raises.
        """
        base = self._as_served(request.base)
        context = self._choose_context(base, request.context_tokens)
        async with self._transition:
            if not self._serves(base, context):
                await self._wait_until_unused()
                await self._serve_on_device(base, context, has_device=request.has_device)
            assert self._server is not None and self._context_length is not None  # noqa: S101, PT018 - it serves
            self._used_at = self._clock()
            return ModelLease(
                id=self._leases.add(),
                version=self._version,
                context_length=self._context_length,
                attached=self._server.attached,
            )

    def end_lease(self, lease_id: str) -> None:
        """End the lease; an unknown or ended one changes nothing."""
        self._leases.end(lease_id)
        self._used_at = self._clock()

    async def release_device(self) -> ServerView:
        """Stop the server or put it to sleep: another process has the device.

        Requests in flight get half a minute to end.
        """
        if self._stays:
            return self.view()
        # The process that had a model loaded under the same device lock is dead; its model need not get ready first.
        self._releasing += 1
        try:
            async with self._transition:
                self._leases.end_all()
                with suppress(DeviceBusy):
                    await self._wait_until_unused()
                await self._give_memory_back()
        finally:
            self._releasing -= 1
        return self.view()

    @asynccontextmanager
    async def leased_client(self, lease_id: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client for requests under a lease. Waits for a server that is being restarted.

        Raises NotFound if the lease expired, or ended with a server that could not be restarted.
        """
        while True:
            if lease_id not in self._leases:
                raise NotFound("There is no such lease: it was unused for a minute, or the server could not be kept.")
            self._leases.touch(lease_id)
            if self._state is ServerState.READY and self._server is not None and self._server.alive:
                break
            await asyncio.sleep(self._timeouts.poll_seconds)
        with self._leases.in_use(lease_id), self._counting_request():
            yield self._server.client

    @asynccontextmanager
    async def client_for(self, base: ServedBase) -> AsyncIterator[httpx.AsyncClient]:
        """A client for users' requests, without a lease. Starts the server where the device is free.

        Raises DeviceBusy if another caller needs it, and all that starting raises.
        """
        context = self._choose_context(base, None)
        if not self._serves(base, context):
            async with self._transition:
                if not self._serves(base, context):
                    if self._in_use:
                        raise DeviceBusy("The model server is busy with another base model.", hint="Try again later.")
                    await self._serve_on_device(base, context, has_device=False)
        if self._refusing or self._server is None:
            raise DeviceBusy("The model server is about to be needed for something else.", hint="Try again later.")
        with self._counting_request():
            yield self._server.client

    async def tokens(self) -> ServedTokens:
        """The server's own token counters. Raises Unavailable if no server runs."""
        if self._state is not ServerState.READY or self._server is None:
            raise Unavailable("vLLM is not running.")
        return await tokens_of(self._server.client)

    def view(self) -> ServerView:
        """The present state."""
        return ServerView(
            state=self._state,
            base=self._base,
            context_length=self._context_length,
            since=self._since,
            starts=self._starts,
            leases=len(self._leases),
            in_flight=self._in_flight,
            last_error=self._last_error,
        )

    async def watch(self) -> None:
        """End unused leases, restart a dead server and stop an idle one, until cancelled."""
        while True:
            await asyncio.sleep(self._timeouts.poll_seconds)
            try:
                await self._check()
            except Exception:
                # Without this loop the callers that wait for a dead server would wait for ever.
                _log.exception("watch_failed")

    async def close(self) -> None:
        """Stop the server for good."""
        async with self._transition:
            await self._stop()

    @property
    def _in_use(self) -> bool:
        return bool(self._leases) or self._in_flight > 0

    def _serves(self, base: ServedBase, context: Context) -> bool:
        return self._state is ServerState.READY and self._has_loaded(base, context)

    def _has_loaded(self, base: ServedBase, context: Context) -> bool:
        if self._server is None or self._base is None or not self._base.covers(base):
            return False
        return self._context_length is not None and (not isinstance(context, int) or context <= self._context_length)

    @contextmanager
    def _counting_request(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
            self._restarts = 0
        finally:
            self._in_flight -= 1
            self._used_at = self._clock()

    async def _check(self) -> None:
        for lease_id in self._leases.expire(self._timeouts.lease_seconds):
            _log.warning("lease_expired", extra={"lease": lease_id})
        if self._transition.locked():
            return
        async with self._transition:
            if self._server is None:
                return
            if not self._server.alive:
                await self._restart()
            elif not self._in_use and self._clock() - self._used_at > self._idle_seconds:
                await self._stop()

    @property
    def _idle_seconds(self) -> float:
        asleep = self._state is ServerState.SLEEPING
        return self._timeouts.sleep_seconds if asleep else self._timeouts.idle_seconds

    async def _wait_until_unused(self) -> None:
        deadline = self._clock() + self._timeouts.wait_seconds
        self._refusing = True
        try:
            while self._in_use:
                if self._clock() > deadline:
                    raise DeviceBusy("The model server is busy with another base model.", hint="Try again later.")
                await asyncio.sleep(self._timeouts.poll_seconds)
        finally:
            self._refusing = False

    async def _serve_on_device(self, base: ServedBase, context: Context, *, has_device: bool) -> None:
        if has_device:
            await self._serve(base, context)
            return
        with self._acquire_device_if_free() as acquired:
            if not acquired:
                raise DeviceBusy("The device is taken by another stage.", hint="Try again when it is done.")
            await self._serve(base, context)

    async def _serve(self, base: ServedBase, context: Context) -> None:
        self._check_not_releasing()
        if not (self._state is ServerState.SLEEPING and self._has_loaded(base, context) and await self._wake()):
            await self._swap(base, context)

    def _check_not_releasing(self) -> None:
        if self._releasing:
            raise DeviceBusy("The device is needed by another stage.", hint="Try again when it is done.")

    async def _give_memory_back(self) -> None:
        """Put the server to sleep if it can, else stop it."""
        server = self._server
        if self._state is ServerState.SLEEPING and server is not None and server.alive:
            return
        can_sleep = self._state is ServerState.READY and server is not None and server.can_sleep and server.alive
        # A request that does not end is broken off with its connection. Sleep would make it a short reply.
        if server is None or not can_sleep or self._in_use:
            await self._stop()
            return
        self._set(ServerState.SLEEPING, self._base)  # before it does: from now on nobody may send it anything
        self._used_at = self._clock()
        try:
            await server.sleep()
        except Unavailable as error:
            _log.warning("server_not_asleep", extra={"detail": error.message})
            await self._stop()

    async def _wake(self) -> bool:
        """Wake the sleeping server. False if it is dead, or does not wake: then it must be started anew."""
        if self._server is None or not self._server.alive:
            return False
        try:
            await self._server.wake()
        except Unavailable as error:
            _log.warning("server_not_awake", extra={"detail": error.message})
            return False
        self._set(ServerState.READY, self._base)
        return True

    async def _swap(self, base: ServedBase, context: Context) -> None:
        self._check_not_releasing()
        await self._stop()
        self._set(ServerState.STARTING, base)
        self._starts += 1
        try:
            # In a thread: a large model whose digest is not known yet is read from end to end.
            self._server = await asyncio.to_thread(self._start, base, context)
            await self._wait_until_ready(self._server)
            self._version = await version_of(self._server.client)
            self._context_length = await context_of(self._server.client)
        except (CraftError, OSError, httpx.HTTPError) as error:
            self._last_error = str(error)
            _log.error("server_not_started", extra={"model": base.model.id, "detail": self._last_error})
            await self._stop()
            if isinstance(error, CraftError):
                raise
            raise Unavailable(f"vLLM could not be started: {error}") from error
        self._set(ServerState.READY, base)

    async def _wait_until_ready(self, server: Server) -> None:
        deadline = self._clock() + self._timeouts.start_seconds
        while not await server.ready():
            if not server.alive:
                raise server.why_it_ended()
            self._check_not_releasing()
            if self._clock() > deadline:
                raise Unavailable(
                    f"vLLM was not ready within {self._timeouts.start_seconds:g} seconds.",
                    hint="Raise CRAFT_INFERENCE__VLLM__START_SECONDS if the model is that large; see vLLM's log.",
                )
            await asyncio.sleep(self._timeouts.poll_seconds)

    async def _restart(self) -> None:
        assert self._server is not None and self._base is not None  # noqa: S101, PT018 - a dead server had a base
        base, context, died = self._base, self._context_length, self._server.why_it_ended()
        self._last_error = died.message
        _log.error("server_died", extra={"model": base.model.id, "detail": died.message})
        await self._stop()
        if not self._leases:
            return
        self._restarts += 1
        try:
            if self._restarts <= _MAX_RESTARTS:
                await self._swap(base, self._choose_context(base, context))
        except CraftError as error:
            _log.warning("server_not_restarted", extra={"detail": error.message})
        finally:
            if self._state is not ServerState.READY:
                # Each holder of a lease gets NotFound for its next request, asks for a new lease and gets the reason.
                self._leases.end_all()
                self._restarts = 0

    async def _stop(self) -> None:
        server, self._server, self._context_length = self._server, None, None
        self._set(ServerState.STOPPED, None)
        if server is not None:
            await server.stop()

    def _set(self, state: ServerState, base: ServedBase | None) -> None:
        self._state, self._base, self._since = state, base, datetime.now(UTC)
        _log.info("server_state", extra={"state": state.value, "model": None if base is None else base.model.id})
