"""Posts one message: an HTTP call that ends in time, whatever the receiver does, and never raises."""

import asyncio
import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

import httpx

from craft.errors import HostUnknown, RequestInvalid, Unavailable
from craft.infra.http.outbound import OutboundPolicy, OutboundTransport

MAX_ANSWER_BYTES = 4096
_SECONDS = 10.0
_MAX_ERROR_LENGTH = 300
_MAX_EXCERPT_LENGTH = 1000
_MAX_PAUSE_SECONDS = 3600
_log = logging.getLogger("craft.webhooks")


class DeliveryOutcome(StrEnum):
    """The outcome of an attempt."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """An answer other than success; redirects are not followed."""
    GONE = "gone"
    """410: the receiver wants nothing any more."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"
    """Its address is not public, or its URL is not https any longer."""
    UNSIGNED = "unsigned"
    """Its secret cannot be read."""


class Answer(NamedTuple):
    """The result of an attempt. `pause_seconds`: the pause that the receiver asks for."""

    outcome: DeliveryOutcome
    status: int | None = None
    excerpt: str | None = None
    error: str | None = None
    pause_seconds: float = 0.0


class Poster(Protocol):
    """Sends messages."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One POST."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class HttpPoster:
    """To public addresses only, unless the policy allows the host; a connection for each call.

    A connection that is kept could serve another host behind the same address, whose certificate was not checked.
    """

    def __init__(self, policy: OutboundPolicy, *, seconds: float = _SECONDS) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        transport = OutboundTransport(policy, httpx.AsyncHTTPTransport(trust_env=False, limits=limits))
        self._client = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            timeout=seconds,
            headers={"User-Agent": "CRaFT-webhooks/1", "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        self._seconds = seconds

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See `Poster`. The whole call takes `seconds` at most, even where the receiver sends byte by byte."""
        response: httpx.Response | None = None
        excerpt = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async with self._client.stream("POST", url, content=body, headers=dict(headers)) as response:
                    async for chunk in response.aiter_raw():
                        excerpt += chunk[: MAX_ANSWER_BYTES - len(excerpt)]
                        if len(excerpt) >= MAX_ANSWER_BYTES:
                            break
        # The edge to an unknown server: no answer of it may end the loop that sends to all others.
        except Exception as error:
            if response is None:
                return _failed(error, self._seconds)
        return _answered(response, bytes(excerpt))

    async def close(self) -> None:
        """See `Poster`."""
        await self._client.aclose()


def _answered(response: httpx.Response, excerpt: bytes) -> Answer:
    status = response.status_code
    text = _plain(excerpt.decode("utf-8", "replace"), _MAX_EXCERPT_LENGTH)
    if response.is_success:
        return Answer(DeliveryOutcome.DELIVERED, status, text)
    if status == httpx.codes.GONE:
        return Answer(DeliveryOutcome.GONE, status, text, "The receiver answered 410: it wants no more messages.")
    detail = f"The receiver answered {status}."
    if response.is_redirect:
        detail += " Redirects are not followed: make a webhook for the final address."
    return Answer(DeliveryOutcome.REFUSED, status, text, detail, _pause(response.headers.get("Retry-After", "")))


def _pause(retry_after: str) -> float:
    given = retry_after.strip()
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        return 0.0
    return float(min(int(given), _MAX_PAUSE_SECONDS))


def _failed(error: Exception, seconds: float) -> Answer:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Answer(DeliveryOutcome.TIMEOUT, error=f"No answer came within {seconds:g} s.")
    if isinstance(error, RequestInvalid):
        # A name may be known again a minute later; an address that is not public is forbidden until settings change.
        outcome = DeliveryOutcome.UNREACHABLE if isinstance(error, HostUnknown) else DeliveryOutcome.FORBIDDEN
        return Answer(outcome, error=_plain(f"{error.message} {error.hint or ''}".strip(), _MAX_ERROR_LENGTH))
    if isinstance(error, Unavailable):
        return Answer(DeliveryOutcome.UNREACHABLE, error=_plain(error.message, _MAX_ERROR_LENGTH))
    if not isinstance(error, httpx.HTTPError | httpx.InvalidURL | OSError | UnicodeError):
        _log.warning("webhook_failed_oddly", exc_info=error)
    detail = f"The receiver cannot be reached: {str(error) or type(error).__name__}"
    return Answer(DeliveryOutcome.UNREACHABLE, error=_plain(detail, _MAX_ERROR_LENGTH))


def _plain(text: str, most: int) -> str:
    # PostgreSQL's text holds no NUL, and UTF-8 no half surrogate pairs.
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
