"""The rules for retries: which requests are sent again, and after which pause. Pure functions."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.infra.backoff import exponential_backoff

_FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
MAX_RETRY_AFTER_SECONDS = 60.0
"""Where a server wants a longer pause, the caller gets the error at once."""
_ANSWERED_BY_OTHERS = frozenset({502, 503, 504})


def backoff_seconds(attempt: int) -> float:
    """The pause in seconds after the attempt with this number, counted from 0."""
    return exponential_backoff(attempt + 1, first=_FIRST_PAUSE_SECONDS, longest=MAX_PAUSE_SECONDS)


def never_sent(error: httpx.TransportError) -> bool:
    """True if the server cannot have seen the request."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def pause_seconds(
    response: httpx.Response, attempt: int, *, idempotent: bool, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """The pause in seconds before the same request may be sent again; None if it must not or should not be.

    `idempotent`: sending the request twice has the same effect as once. The server did not process a request that it
    refused for its rate (429), so any such request may be sent again.
    """
    status = response.status_code
    if status != httpx.codes.TOO_MANY_REQUESTS and not (idempotent and status in _ANSWERED_BY_OTHERS):
        return None
    if not _retryable(response):
        return None
    wanted = _retry_after(response.headers.get("Retry-After"), now)
    if wanted is None:
        return backoff_seconds(attempt)
    return wanted if wanted <= MAX_RETRY_AFTER_SECONDS else None


def _retryable(response: httpx.Response) -> bool:
    """The problem document's own `retryable`; True for any other response."""
    try:
        return Problem.model_validate_json(response.content).retryable
    except ValidationError:
        return True


def _retry_after(value: str | None, now: Callable[[], datetime]) -> float | None:
    """The seconds of a Retry-After header: a number, or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now()).total_seconds())
    except (ValueError, TypeError):
        return None
