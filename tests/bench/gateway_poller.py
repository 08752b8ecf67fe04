"""A client that polls at a constant rate, however slow the answers are, so that latencies show a server's stalls."""

import asyncio
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple

TIMEOUT_SECONDS = 30.0


class Answer(NamedTuple):
    """A response. `status` 0 means that there was none."""

    status: int
    etag: str | None


class Connection:
    """One kept-alive HTTP/1.1 connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str | None) -> None:
        self._reader = reader
        self._writer = writer
        self._authorization = f"Authorization: Bearer {key}\r\n" if key else ""

    @classmethod
    async def open(cls, port: int, key: str | None = None) -> "Connection":
        """Connect to a server on this machine. Requests carry the `key`."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24), key)

    @property
    def usable(self) -> bool:
        """True while the server has not closed the connection."""
        return not self._reader.at_eof()

    async def get(self, path: str, etag: str | None = None) -> Answer:
        """Send a GET, then read and drop the body. Raises OSError, EOFError."""
        condition = f"If-None-Match: {etag}\r\n" if etag else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._authorization}{condition}\r\n".encode())
        return await self._answer()

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a POST of JSON, then read and drop the response's body. Raises OSError, EOFError."""
        content_headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._authorization}{content_headers}\r\n".encode() + body
        )
        return await self._answer()

    async def events(self, path: str) -> int:
        """Read an event stream until it is cancelled or ends. Returns the number of bytes."""
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{self._authorization}\r\n".encode()
        )
        received = 0
        with suppress(asyncio.CancelledError):
            while piece := await self._reader.read(2**16):
                received += len(piece)
        return received

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split(" ", 2)[1])
        if status != 304:
            await self._reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers.get("etag"))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class Connections:
    """A pool of connections that are used in turn, so that the server closes none as idle. It grows when all are busy.

    Several servers get equal numbers of connections.
    """

    def __init__(self, ports: Sequence[int], key: str | None = None) -> None:
        self._ports = cycle(ports)
        self._key = key
        self._free: deque[Connection] = deque()
        self.opened = 0

    async def get(self, path: str, etag: str | None = None) -> Answer:
        """GET over a free connection."""
        return await self._over(lambda connection: connection.get(path, etag))

    async def post(self, path: str, body: bytes) -> Answer:
        """POST over a free connection."""
        return await self._over(lambda connection: connection.post(path, body))

    async def _over(self, send: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        connection = await self._take()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await send(connection)
        except (OSError, EOFError, TimeoutError):
            connection.close()
            return Answer(0, None)
        self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close all connections."""
        for connection in self._free:
            connection.close()

    async def _take(self) -> Connection:
        while self._free:
            connection = self._free.popleft()
            if connection.usable:
                return connection
            connection.close()
        self.opened += 1
        return await Connection.open(next(self._ports), self._key)


@dataclass
class Latencies:
    """The latencies in milliseconds from the moment at which a request was due, and the counts of statuses."""

    milliseconds: list[float] = field(default_factory=list)
    late_milliseconds: list[float] = field(default_factory=list)
    """The client's own delay after that moment, which is part of the latency."""
    statuses: dict[int, int] = field(default_factory=dict)
    conditional: int = 0
    seconds: float = 0.0
    """The seconds until the last request was sent."""

    @property
    def errors(self) -> int:
        """The number of requests without a successful response."""
        return sum(count for status, count in self.statuses.items() if status not in {200, 202, 304})

    def note(self, answer: Answer, *, due: float, sent: float, done: float) -> None:
        """Record one request. The moments are in seconds."""
        self.milliseconds.append((done - due) * 1e3)
        self.late_milliseconds.append((sent - due) * 1e3)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not exceeded by at least so many percent of the values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


async def at_rate(rate: float, seconds: float, request: Callable[[float], Awaitable[None]]) -> float:
    """Start `request(due)` so many times a second, however many are in flight. Returns the seconds of sending."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    in_flight: set[asyncio.Future[None]] = set()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
        task = asyncio.ensure_future(request(due))
        in_flight.add(task)
        task.add_done_callback(in_flight.discard)
    sent = max(loop.time() - began, seconds)
    await asyncio.gather(*in_flight)
    return sent


async def poll(
    connections: Connections,
    job_ids: Sequence[str],
    *,
    rate: float,
    seconds: float,
    seed: int,
    tags: dict[str, str | None] | None = None,
) -> Latencies:
    """Poll random jobs. Half of the polls carry the job's last ETag; with `tags` all of them do."""
    drawn = random.Random(seed)
    latencies, always = Latencies(), tags is not None
    last: dict[str, str | None] = tags or {}
    now = asyncio.get_running_loop().time

    async def request(due: float) -> None:
        job_id = drawn.choice(job_ids)
        known = last.get(job_id) if always or drawn.random() < 0.5 else None
        latencies.conditional += known is not None
        sent = now()
        answer = await connections.get(f"/craft/jobs/{job_id}", known)
        latencies.note(answer, due=due, sent=sent, done=now())
        if answer.etag:
            last[job_id] = answer.etag

    latencies.seconds = await at_rate(rate, seconds, request)
    return latencies


async def request_repeatedly(connections: Connections, path: str, *, every_seconds: float, seconds: float) -> Latencies:
    """Request one path at an interval."""
    latencies = Latencies()
    now = asyncio.get_running_loop().time

    async def request(due: float) -> None:
        sent = now()
        latencies.note(await connections.get(path), due=due, sent=sent, done=now())

    latencies.seconds = await at_rate(1.0 / every_seconds, seconds, request)
    return latencies
