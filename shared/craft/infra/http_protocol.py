"""HTTP/1.1 over httptools, which by itself takes headers, trailers and chunk sizes without end."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on who sends more than `MOST_HEAD_BYTES` (and one read) that is neither a whole head nor a body."""

    _idle_bytes = 0
    """What came since a head was complete or a piece of a body came."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                self.send_400_response("The request's headers are too long.")
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._idle_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._idle_bytes = 0
        super().on_message_complete()
