"""HEAD wherever there is GET, and what it answers but for the body (RFC 9110, 9.3.2)."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """The middleware: the application takes HEAD for a GET, and stops once its answer's head is out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy, since the server has to know what was asked. Ranges are GET's only (RFC 9110, 14.2).
        headers = [each for each in scope["headers"] if each[0] != b"range"]
        as_get = {**scope, "method": "GET", "headers": headers}
        try:
            with anyio.CancelScope() as answering:
                await self._app(as_get, receive, _HeadOnly(send, answering))
        except _HeadSent:
            pass
        finally:
            # For metrics and logs, which have the original.
            scope["route"] = as_get.get("route")


class _HeadSent(Exception):
    """Keeps an application from reading on what nobody is sent. Unlike one that is cancelled it can close files."""


class _HeadOnly:
    """Sends an answer without its body."""

    def __init__(self, send: Send, answering: anyio.CancelScope) -> None:
        self._send = send
        self._answering = answering
        self._sent = False

    async def __call__(self, message: Message) -> None:
        if self._sent:
            if message.get("more_body", False) and not self._answering.cancel_called:
                raise _HeadSent
            return
        self._sent = True
        await self._send(message)
        await self._send({"type": "http.response.body"})
        if not any(name == b"content-length" for name, _ in message["headers"]):
            # An event stream may be silent for long and has no end. Files are not cancelled: see `_HeadSent`.
            self._answering.cancel()
