"""Answers HEAD wherever there is GET: the same response without its body (RFC 9110, 9.3.2)."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """The middleware: the application sees a GET, and is stopped once the response's head is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy, because the server must know the original method. Only GET has ranges (RFC 9110, 14.2).
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        as_get = {**scope, "method": "GET", "headers": headers}
        try:
            with anyio.CancelScope() as answering:
                await self._app(as_get, receive, _HeadOnly(send, answering))
        except _HeadSent:
            pass
        finally:
            # For metrics and logs, which read the original scope.
            scope["route"] = as_get.get("route")


class _HeadSent(Exception):
    """Stops an application from reading a body that is not sent. It can close its files, unlike a cancelled one."""


class _HeadOnly:
    """Sends a response without its body."""

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
            # Cancelled, because an event stream may be silent for long and never ends. For files see `_HeadSent`.
            self._answering.cancel()
