"""Kombu's transport for Redis, which hands on hints and nothing else.

Others may write to the broker. Celery itself takes far more than hints (tasks to send when this one is done, times to
wait for, limits), and what it cannot read ends its process.
"""

import base64
import logging
from functools import partial
from typing import Any, Literal

from kombu.transport import TRANSPORT_ALIASES, redis
from pydantic import BaseModel, Field, TypeAdapter

from craft.contracts.base import Contract
from craft.contracts.stages.kinds import Service

_LONGEST_ID = 100
_SHOWN_BYTES = 80
_log = logging.getLogger("craft.broker")


def use_dispatch_transport() -> None:
    """From now on `redis://`, `rediss://` and `redis+socket://` mean this transport."""
    here = f"{__name__}:DispatchTransport"
    TRANSPORT_ALIASES.update(redis=here, rediss=here)


class _Headers(BaseModel):
    task: Literal["craft.stage"]  # broker.TASK_NAME
    id: str = Field(max_length=_LONGEST_ID)


class _DeliveryInfo(BaseModel):
    exchange: Literal[""]
    routing_key: Service


class _Properties(BaseModel):
    delivery_info: _DeliveryInfo
    delivery_tag: str = Field(max_length=_LONGEST_ID)
    body_encoding: Literal["base64"]


class _Envelope(BaseModel):
    """What kombu needs of a message. Members that are not named here are left behind."""

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


class _Words(Contract):
    stage_id: str = Field(max_length=_LONGEST_ID)


_BODY: TypeAdapter[tuple[tuple[()], _Words, dict[str, Any]]] = TypeAdapter(tuple[tuple[()], _Words, dict[str, Any]])
"""The task's positional arguments, its keyword arguments, and what Celery would do next."""


def dispatch_message_in(message: bytes) -> bytes:
    """The message with what a hint needs and nothing more. Raises ValueError where it is none."""
    envelope = _Envelope.model_validate_json(message)
    arguments, words, _ = _BODY.validate_json(base64.b64decode(envelope.body, validate=True))
    envelope.body = base64.b64encode(_BODY.dump_json((arguments, words, {}))).decode()
    return envelope.model_dump_json(by_alias=True).encode()


class _DispatchClient(redis.PrefixedStrictRedis):
    """A client to which what is no hint never came."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """As the base class; None, as when nothing lies on the queue, for a message that is dropped."""
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
    """Sends as kombu's own does."""

    Channel = _DispatchChannel
