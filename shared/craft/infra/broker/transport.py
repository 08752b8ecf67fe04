"""Kombu's transport for Redis, limited to dispatch messages.

Others may write to the broker. Celery itself accepts far more than dispatch messages (tasks to send after this one,
times to wait for, limits), and a message that it cannot read ends its process.
"""

import base64
import logging
from functools import partial
from typing import Any, Literal

from kombu.transport import TRANSPORT_ALIASES, redis
from pydantic import BaseModel, Field, TypeAdapter

from craft.contracts.base import Contract
from craft.contracts.stages.kinds import Service

_MAX_ID_LENGTH = 100
_SHOWN_BYTES = 80
_log = logging.getLogger("craft.broker")


def use_dispatch_transport() -> None:
    """Make this transport the one for `redis://`, `rediss://` and `redis+socket://`."""
    here = f"{__name__}:DispatchTransport"
    TRANSPORT_ALIASES.update(redis=here, rediss=here)


class _Headers(BaseModel):
    task: Literal["craft.stage"]  # celery.TASK_NAME
    id: str = Field(max_length=_MAX_ID_LENGTH)


class _DeliveryInfo(BaseModel):
    exchange: Literal[""]
    routing_key: Service


class _Properties(BaseModel):
    delivery_info: _DeliveryInfo
    delivery_tag: str = Field(max_length=_MAX_ID_LENGTH)
    body_encoding: Literal["base64"]


class _Envelope(BaseModel):
    """The members of a message that kombu needs. All others are dropped."""

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


class _Arguments(Contract):
    stage_id: str = Field(max_length=_MAX_ID_LENGTH)


_BODY: TypeAdapter[tuple[tuple[()], _Arguments, dict[str, Any]]] = TypeAdapter(
    tuple[tuple[()], _Arguments, dict[str, Any]]
)
"""The task's positional arguments, its keyword arguments, and Celery's follow-up tasks."""


def dispatch_message_in(message: bytes) -> bytes:
    """The message, reduced to the members of a dispatch message. Raises ValueError for any other message."""
    envelope = _Envelope.model_validate_json(message)
    positional, arguments, _ = _BODY.validate_json(base64.b64decode(envelope.body, validate=True))
    envelope.body = base64.b64encode(_BODY.dump_json((positional, arguments, {}))).decode()
    return envelope.model_dump_json(by_alias=True).encode()


class _DispatchClient(redis.PrefixedStrictRedis):
    """A client that drops every message except dispatch messages."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """See the base class. Returns None for a dropped message, as for an empty queue."""
        answer = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not answer:
            return answer
        queue, message = answer
        try:
            return queue, dispatch_message_in(message)
        except ValueError:
            shown = ascii(message[:_SHOWN_BYTES])
            _log.warning("message_dropped", extra={"queue": queue.decode(), "bytes": len(message), "begins": shown})
            return None


class _DispatchChannel(redis.Channel):
    def _get_client(self) -> Any:
        return partial(_DispatchClient, global_keyprefix=self.global_keyprefix)


class DispatchTransport(redis.Transport):
    """Receives dispatch messages only; sends as kombu's own transport does."""

    Channel = _DispatchChannel
