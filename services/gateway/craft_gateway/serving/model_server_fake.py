"""A model server without a model, for tests."""

import json
from collections.abc import AsyncIterator
from typing import Any

from craft.contracts.services.model_server import ServedBase
from craft.errors import Unavailable
from craft_gateway.serving.model_server import ModelServerReply


class FakeModelServer:
    """Records requests, and answers with `status` and `body`, or with `chunks` where they are set.

    `down`: the server does not answer. `breaks`: the connection breaks after the last chunk.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], ServedBase]] = []
        self.status = 200
        self.media_type = "application/json"
        self.body: object = {"object": "chat.completion", "choices": []}
        self.chunks: list[bytes] | None = None
        self.retry_after: str | None = None
        self.down = False
        self.breaks = False
        self.closed = 0

    async def chat(self, body: bytes, *, base: ServedBase) -> ModelServerReply:
        """See `ModelServer.chat`."""
        if self.down:
            raise Unavailable("The model server does not answer just now.")
        self.requests.append((json.loads(body), base))
        return ModelServerReply(
            status=self.status,
            media_type=self.media_type,
            retry_after=self.retry_after,
            chunks=self._chunks(),
            close=self._close,
        )

    async def _chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks if self.chunks is not None else [json.dumps(self.body).encode()]:
            yield chunk
        if self.breaks:
            raise Unavailable("The model server broke off its answer.")

    async def _close(self) -> None:
        self.closed += 1
