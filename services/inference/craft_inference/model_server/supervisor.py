"""Decides which base model is served, and when its server is started, swapped, restarted or stopped."""

import asyncio
import logging
from collections import Counter
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
from craft.infra.ids import new_id
from craft_inference.model_server.server import Server, tokens_of, version_of

_MAX_RESTARTS = 3
_log = logging.getLogger("craft.model_server")
Start = Callable[[ServedBase], Server]
"""Starts a server for the base model. Raises ModelNotFound, ModelRejected, OSError."""
AcquireDeviceIfFree = Callable[[], AbstractContextManager[bool]]
"""Takes the device lock for the length of a block, without waiting; the value says whether the lock was free."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The supervisor's waiting times.

    `start_seconds`: a server that is not ready by then has failed. `idle_seconds`: a server that is unused for so
    long is stopped. `lease_seconds`: a lease that is not used for so long ends, because its holder must be dead.
    `wait_seconds`: a caller that needs another model, or the free device, waits so long for the present users.
    `poll_seconds`: the time between two checks.
    """

    start_seconds: float
    idle_seconds: float
    lease_seconds: float = 60.0
    wait_seconds: float = 30.0
    poll_seconds: float = 0.25


class ServerSupervisor:
    """Runs at most one server at a time, on one event loop. `watch` must run as long as the supervisor is used.

    `as_served` may widen a base model that a caller wants, so that one server fits more callers.
    """

    def __init__(
        self,
        start: Start,
        *,
        acquire_device_if_free: AcquireDeviceIfFree,
        timeouts: Timeouts,
        as_served: Callable[[ServedBase], ServedBase] = lambda base: base,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._start = start
        self._as_served = as_served
        self._acquire_device_if_free = acquire_device_if_free
        self._timeouts = timeouts
        self._clock = clock
        self._transition = asyncio.Lock()
        self._server: Server | None = None
        self._base: ServedBase | None = None
        self._state = ServerState.STOPPED
        self._version = ""
        self._leases: dict[str, float] = {}
        self._in_flight_by_lease: Counter[str] = Counter()
        self._in_flight = 0
        self._refusing = False  # new requests would keep the server busy while a caller waits for it to be unused
        self._releasing = 0
        self._used_at = clock()
        self._starts = self._restarts = 0
        self._since = datetime.now(UTC)
        self._last_error: str | None = None

    async def lease(self, request: ModelLeaseRequest) -> ModelLease:
        """Serve the base model, swapping another one out when it is unused.

        Raises DeviceBusy if that takes too long or another process has the device, and all that starting raises.
        """
        base = self._as_served(request.base)
        async with self._transition:
            if not self._serves(base):
                await self._wait_until_unused()
                await self._start_on_device(base, has_device=request.has_device)
        lease = ModelLease(id=new_id("lease"), version=self._version)
        self._leases[lease.id] = self._used_at = self._clock()
        return lease

    def end_lease(self, lease_id: str) -> None:
        """End the lease; an unknown or ended one changes nothing."""
        self._leases.pop(lease_id, None)
        self._used_at = self._clock()

    async def release_device(self) -> ServerView:
        """Stop the server: another process has the device. Requests in flight get half a minute to end."""
        # The process that had a model loaded under the same device lock is dead; its model need not get ready first.
        self._releasing += 1
        try:
            async with self._transition:
                self._leases.clear()
                with suppress(DeviceBusy):
                    await self._wait_until_unused()
                await self._stop()
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
            self._leases[lease_id] = self._clock()
            if self._state is ServerState.READY and self._server is not None and self._server.alive:
                break
            await asyncio.sleep(self._timeouts.poll_seconds)
        self._in_flight_by_lease[lease_id] += 1
        try:
            with self._counting_request():
                yield self._server.client
        finally:
            self._in_flight_by_lease[lease_id] -= 1
            if not self._in_flight_by_lease[lease_id]:
                del self._in_flight_by_lease[lease_id]
            if lease_id in self._leases:
                self._leases[lease_id] = self._clock()

    @asynccontextmanager
    async def client_for(self, base: ServedBase) -> AsyncIterator[httpx.AsyncClient]:
        """A client for users' requests, without a lease. Starts the server where the device is free.

        Raises DeviceBusy if another caller needs it, and all that starting raises.
        """
        if not self._serves(base):
            async with self._transition:
                if not self._serves(base):
                    if self._in_use:
                        raise DeviceBusy("The model server is busy with another base model.", hint="Try again later.")
                    await self._start_on_device(base, has_device=False)
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

    def _serves(self, base: ServedBase) -> bool:
        ready = self._state is ServerState.READY and self._server is not None
        return ready and self._base is not None and self._base.covers(base)

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
        now = self._clock()
        for lease_id, used in list(self._leases.items()):
            # A lease is in use while a long reply is generated under it.
            if now - used > self._timeouts.lease_seconds and lease_id not in self._in_flight_by_lease:
                _log.warning("lease_expired", extra={"lease": lease_id})
                del self._leases[lease_id]
        if self._transition.locked():
            return
        async with self._transition:
            if self._server is None:
                return
            if not self._server.alive:
                await self._restart()
            elif not self._in_use and self._clock() - self._used_at > self._timeouts.idle_seconds:
                await self._stop()

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

    async def _start_on_device(self, base: ServedBase, *, has_device: bool) -> None:
        if has_device:
            await self._swap(base)
            return
        with self._acquire_device_if_free() as acquired:
            if not acquired:
                raise DeviceBusy("The device is taken by another stage.", hint="Try again when it is done.")
            await self._swap(base)

    def _check_not_releasing(self) -> None:
        if self._releasing:
            raise DeviceBusy("The device is needed by another stage.", hint="Try again when it is done.")

    async def _swap(self, base: ServedBase) -> None:
        self._check_not_releasing()
        await self._stop()
        self._set(ServerState.STARTING, base)
        self._starts += 1
        try:
            # In a thread: a large model whose digest is not known yet is read from end to end.
            self._server = await asyncio.to_thread(self._start, base)
            await self._wait_until_ready(self._server)
            self._version = await version_of(self._server.client)
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
        base, died = self._base, self._server.why_it_ended()
        self._last_error = died.message
        _log.error("server_died", extra={"model": base.model.id, "detail": died.message})
        await self._stop()
        if not self._leases:
            return
        self._restarts += 1
        try:
            if self._restarts <= _MAX_RESTARTS:
                await self._swap(base)
        except CraftError as error:
            _log.warning("server_not_restarted", extra={"detail": error.message})
        finally:
            if self._state is not ServerState.READY:
                # Each holder of a lease gets NotFound for its next request, asks for a new lease and gets the reason.
                self._leases.clear()
                self._restarts = 0

    async def _stop(self) -> None:
        server, self._server = self._server, None
        self._set(ServerState.STOPPED, None)
        if server is not None:
            await server.stop()

    def _set(self, state: ServerState, base: ServedBase | None) -> None:
        self._state, self._base, self._since = state, base, datetime.now(UTC)
        _log.info("server_state", extra={"state": state.value, "model": None if base is None else base.model.id})
