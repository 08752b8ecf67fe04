"""Follows a job across lost connections and restarts of the server."""

import time
from collections.abc import AsyncIterator

import httpx

from craft.contracts.public.jobs import EventView, JobView
from craft_client.aio.transport import AsyncTransport
from craft_client.encoding import route
from craft_client.errors import ApiError, ServerUnreachable
from craft_client.sse import EventReader

_LONG_POLL_SECONDS = 30.0
_MAX_DROPS = 60
"""The number of consecutive losses of the connection, about ten minutes, after which following ends."""
_STREAM = "text/event-stream"
_WAIT_AND_RETRY = frozenset({429, 502, 503, 504})


async def events(transport: AsyncTransport, job_id: str, *, after: int) -> AsyncIterator[EventView]:
    """See `AsyncJobs.stream`."""
    path, seen, drops, max_drops = route("/craft/jobs/{}/events", job_id), after, 0, transport.retries
    while True:
        ended = False
        try:
            headers = {"Accept": _STREAM, "Last-Event-ID": str(seen)}
            async with transport.stream(path, params={"after": seen}, headers=headers) as response:
                if response.status_code == httpx.codes.NO_CONTENT:
                    return
                reader, max_drops = EventReader(), _MAX_DROPS
                async for line in response.aiter_lines():
                    event = reader.feed(line)
                    if event is not None and event.seq > seen:
                        seen, drops, ended = event.seq, 0, ended or event.type.terminal
                        yield event
        except (httpx.TransportError, ApiError) as error:
            _raise_if_final(error, job_id, drops=drops, max_drops=max_drops)
        if ended:
            return
        # A server that shuts down also closes the stream; the next server continues it.
        await transport.pause(drops)
        drops += 1


async def wait_until_ended(transport: AsyncTransport, job_id: str, *, until: float) -> JobView:
    """See `AsyncJobs.wait_until_ended`."""
    path, drops, max_drops = route("/craft/jobs/{}", job_id), 0, 0
    while True:
        left = max(0.0, min(_LONG_POLL_SECONDS, until - time.monotonic()))
        try:
            view = await transport.call(JobView, "GET", path, params={"wait": left})
        except ServerUnreachable:
            # Each such call has already waited and sent several attempts.
            drops += 1
            if drops > max_drops or time.monotonic() >= until:
                raise
            continue
        if view.status.terminal or time.monotonic() >= until:
            return view
        drops, max_drops = 0, _MAX_DROPS


def _raise_if_final(error: httpx.TransportError | ApiError, job_id: str, *, drops: int, max_drops: int) -> None:
    """Raise the error where waiting cannot help, or after too many losses."""
    if isinstance(error, ApiError) and error.problem.status not in _WAIT_AND_RETRY:
        raise error
    if drops >= max_drops:
        raise ServerUnreachable(f"The event stream of {job_id} broke {drops + 1} times: {error}") from error
