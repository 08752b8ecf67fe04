"""A client that polls at a constant rate whatever the answers take, so that a server's stall shows in the latencies."""

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
    """`status` 0: there was none."""

    status: int
    etag: str | None


class Connection:
    """One kept-alive HTTP/1.1 connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str | None) -> None:
        self._reader = reader
        self._writer = writer
        self._who = f"Authorization: Bearer {key}\r\n" if key else ""

    @classmethod
    async def open(cls, port: int, key: str | None = None) -> "Connection":
        """Connect to a server on this machine; `key` is what requests carry."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24), key)

    @property
    def usable(self) -> bool:
        """Whether the server has not closed it."""
        return not self._reader.at_eof()

    async def get(self, path: str, etag: str | None = None) -> Answer:
        """GET; the body is read and dropped. Raises OSError, EOFError."""
        condition = f"If-None-Match: {etag}\r\n" if etag else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._who}{condition}\r\n".encode())
        return await self._answer()

    async def post(self, path: str, body: bytes) -> Answer:
        """POST of JSON; the answer's body is read and dropped. Raises OSError, EOFError."""
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{self._who}{about}\r\n".encode() + body)
        return await self._answer()

    async def events(self, path: str) -> int:
        """Read an event stream until it is cancelled or ends; how many bytes of it came."""
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{self._who}\r\n".encode()
        )
        came = 0
        with suppress(asyncio.CancelledError):
            while piece := await self._reader.read(2**16):
                came += len(piece)
        return came

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split(" ", 2)[1])
        if status != 304:
            await self._reader.readexactly(int(headers["content-length"]))
        return Answer(status, headers.get("etag"))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Connections:
    """Connections that are used in turn, so that none is idle until the server hangs up; more where all are busy.

    Of several servers each gets as many.
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

    async def _over(self, ask: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        connection = await self._take()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await ask(connection)
        except (OSError, EOFError, TimeoutError):
            connection.close()
            return Answer(0, None)
        self._free.append(connection)
        return answer

    def close(self) -> None:
        """Hang up all."""
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
class Seen:
    """Latencies in milliseconds from the moment at which a request was due, and how the server answered."""

    milliseconds: list[float] = field(default_factory=list)
    late_milliseconds: list[float] = field(default_factory=list)
    """How long after that moment the client itself came to send it; part of the latency."""
    statuses: dict[int, int] = field(default_factory=dict)
    conditional: int = 0
    seconds: float = 0.0
    """Until the last of them was sent."""

    @property
    def errors(self) -> int:
        """Requests without a proper answer."""
        return sum(count for status, count in self.statuses.items() if status not in {200, 202, 304})

    def note(self, answer: Answer, *, due: float, sent: float, done: float) -> None:
        """One request is done; moments in seconds."""
        self.milliseconds.append((done - due) * 1e3)
        self.late_milliseconds.append((sent - due) * 1e3)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


async def at_rate(rate: float, seconds: float, request: Callable[[float], Awaitable[None]]) -> float:
    """Start `request(due)` so many times a second, however many are under way; returns the seconds it all took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    under_way: set[asyncio.Future[None]] = set()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
        task = asyncio.ensure_future(request(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    sent = max(loop.time() - began, seconds)
    await asyncio.gather(*under_way)
    return sent


async def poll(
    connections: Connections,
    job_ids: Sequence[str],
    *,
    rate: float,
    seconds: float,
    seed: int,
    tags: dict[str, str | None] | None = None,
) -> Seen:
    """Look at jobs drawn at random; half of the looks say what was seen last of the job, or with `tags` all do."""
    drawn = random.Random(seed)
    seen, always = Seen(), tags is not None
    last: dict[str, str | None] = tags or {}
    now = asyncio.get_running_loop().time

    async def look(due: float) -> None:
        job_id = drawn.choice(job_ids)
        known = last.get(job_id) if always or drawn.random() < 0.5 else None
        seen.conditional += known is not None
        sent = now()
        answer = await connections.get(f"/craft/jobs/{job_id}", known)
        seen.note(answer, due=due, sent=sent, done=now())
        if answer.etag:
            last[job_id] = answer.etag

    seen.seconds = await at_rate(rate, seconds, look)
    return seen


async def look_at(connections: Connections, path: str, *, every_seconds: float, seconds: float) -> Seen:
    """Ask for one path now and then."""
    seen = Seen()
    now = asyncio.get_running_loop().time

    async def look(due: float) -> None:
        sent = now()
        seen.note(await connections.get(path), due=due, sent=sent, done=now())

    seen.seconds = await at_rate(1.0 / every_seconds, seconds, look)
    return seen
