"""Which calls are made again, and after what pause: pure rules."""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import ValidationError

from craft.contracts.problems import Problem

LONGEST_PAUSE_SECONDS = 10.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""A server that wants a longer pause is told to the caller instead of waited for."""
_ANSWERED_BY_OTHERS = frozenset({502, 503, 504})


def backoff_seconds(attempt: int) -> float:
    """Pause after the try with this number, from 0."""
    return float(min(0.5 * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS))


def never_sent(error: httpx.TransportError) -> bool:
    """Whether the server cannot have seen the request."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def pause_seconds(
    response: httpx.Response, attempt: int, *, safe: bool, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """How long to wait before the same request may be sent again; None: it may not, or should not.

    `safe`: twice is as once. A request over the rate (429) was not looked at, so any may be sent again.
    """
    status = response.status_code
    if status != httpx.codes.TOO_MANY_REQUESTS and not (safe and status in _ANSWERED_BY_OTHERS):
        return None
    if not _retryable(response):
        return None
    wanted = _retry_after(response.headers.get("Retry-After"), now)
    if wanted is None:
        return backoff_seconds(attempt)
    return wanted if wanted <= LONGEST_RETRY_AFTER_SECONDS else None


def _retryable(response: httpx.Response) -> bool:
    """Our own problems say whether to try again; of anything else it is assumed."""
    try:
        return Problem.model_validate_json(response.content).retryable
    except ValidationError:
        return True


def _retry_after(value: str | None, now: Callable[[], datetime]) -> float | None:
    """Seconds, or a date of HTTP (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now()).total_seconds())
    except (ValueError, TypeError):
        return None
