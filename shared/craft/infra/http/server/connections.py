"""Closes connections that hold a place and send or read nothing, and bounds their number in all and for each peer.

The server itself limits only the pause between two requests of a connection.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Closing(StrEnum):
    """The reason for which the server closed a connection."""

    HEAD = "head"
    """The head of a request took too long."""
    BODY = "body"
    """The body of a request came too slowly."""
    UNREAD = "unread"
    """The peer did not read the response."""
    FULL = "full"
    """There were too many connections."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The time that a peer has: for a whole head, and for each `min_bytes` of a body and of a response."""

    head_seconds: float = 10.0
    body_seconds: float = 20.0
    unread_seconds: float = 60.0
    min_bytes: int = 20_000


class Places:
    """The places of a server's connections. `closed` counts those that the server closed, by reason."""

    def __init__(self, *, most: int, most_per_peer: int) -> None:
        self.closed = Counter[Closing]()
        self._most = most
        self._most_per_peer = most_per_peer
        self._open: dict[WatchedConnection, str] = {}
        """Each connection's peer; empty for a Unix socket, whose peers have no limit of their own."""
        self._of_peer = Counter[str]()
        self._headless: dict[WatchedConnection, None] = {}
        """Those from which a head is awaited, longest first."""

    @property
    def taken(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def admit(self, connection: "WatchedConnection", peer: str) -> bool:
        """Give the connection a place; where there is none, that of the one from which a head is awaited longest."""
        if peer and self._of_peer[peer] >= self._most_per_peer:
            self._evict(next((each for each in self._headless if self._open[each] == peer), None))
        elif len(self._open) >= self._most:
            self._evict(next(iter(self._headless), None))
        if len(self._open) >= self._most or (peer and self._of_peer[peer] >= self._most_per_peer):
            return False
        self._open[connection] = peer
        self._of_peer[peer] += 1
        return True

    def leave(self, connection: "WatchedConnection") -> None:
        """Take the connection's place back, if it has one."""
        self._headless.pop(connection, None)
        peer = self._open.pop(connection, None)
        if peer is not None:
            self._of_peer[peer] -= 1
            if not self._of_peer[peer]:
                del self._of_peer[peer]

    def head_awaited(self, connection: "WatchedConnection", *, awaited: bool) -> None:
        """Note whether the connection has still to send a head."""
        if not awaited:
            self._headless.pop(connection, None)
        elif connection in self._open:
            self._headless.setdefault(connection)

    def _evict(self, connection: "WatchedConnection | None") -> None:
        if connection is not None:
            self.leave(connection)
            connection.end(Closing.FULL)


class _Phase(StrEnum):
    """The part of a request that the server waits for; NONE between requests and while it answers."""

    NONE = "none"
    HEAD = "head"
    BODY = "body"


class WatchedConnection(H11Protocol):
    """A connection with the time limits of `patience` and a place in `places`."""

    def __init__(self, *args: Any, places: Places, patience: Patience, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places = places
        self._patience = patience
        self._phase = _Phase.NONE
        self._bytes_received = 0
        self._requests_began = False
        self._timer: Any = None
        self._unread_timer: Any = None
        self._refused = False

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`. A connection without a place is answered 503 and closed."""
        super().connection_made(transport)
        if self._places.admit(self, self.client[0] if self.client else ""):
            self._watch()
            return
        self._refused = True
        self.end(Closing.FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_timers()
        self._places.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._refused:
            return
        self._bytes_received += len(data)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See `H11Protocol`."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def end(self, reason: Closing) -> None:
        """Close the connection. A peer that has been answered nothing yet is told why, if it reads."""
        self._places.closed[reason] += 1
        self._stop_timers()
        if reason in _ANSWERS and not self._requests_began:
            self.transport.write(_ANSWERS[reason])
            self.transport.close()
        else:
            self.transport.abort()

    def _watch(self) -> None:
        """Begin the time of a new phase."""
        phase = self._awaited()
        if phase is self._phase:
            return
        self._phase = phase
        self._places.head_awaited(self, awaited=phase is _Phase.HEAD)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase is _Phase.HEAD:
            self._timer = self.loop.call_later(self._patience.head_seconds, self.end, Closing.HEAD)
        elif phase is _Phase.BODY:
            self._begin_window()

    def _awaited(self) -> _Phase:
        if self.transport.is_closing():
            return _Phase.NONE
        if self.conn.their_state is h11.SEND_BODY:
            self._requests_began = True
            return _Phase.BODY
        if self.conn.their_state is not h11.IDLE:
            self._requests_began = True
            return _Phase.NONE
        # Between two requests the server's own limit counts, until the next one begins.
        return _Phase.HEAD if not self._requests_began or self.conn.trailing_data[0] else _Phase.NONE

    def _begin_window(self) -> None:
        self._timer = self.loop.call_later(self._patience.body_seconds, self._end_window, self._bytes_received)

    def _end_window(self, received_before: int) -> None:
        # The application may not read yet, or may never ask for the body.
        waits_for_us = self.flow.read_paused or self.conn.they_are_waiting_for_100_continue
        answered = self.cycle is not None and self.cycle.response_complete
        if answered or not (waits_for_us or self._bytes_received - received_before >= self._patience.min_bytes):
            self.end(Closing.BODY)
        else:
            self._begin_window()

    def _await_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(self._patience.unread_seconds, self._end_reading, unread)

    def _end_reading(self, unread_before: int) -> None:
        # The application writes no more while the buffer is full.
        if unread_before - self.transport.get_write_buffer_size() < self._patience.min_bytes:
            self.end(Closing.UNREAD)
        else:
            self._await_reading()

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._unread_timer = None


def _answer(status: str, detail: str) -> bytes:
    body = detail.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Retry-After: 5\r\nConnection: close\r\n\r\n".encode() + body


_ANSWERS = {
    Closing.HEAD: _answer("408 Request Timeout", "The head of the request took too long."),
    Closing.FULL: _answer("503 Service Unavailable", "Too many connections are open. Try again in some seconds."),
}
