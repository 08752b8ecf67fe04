"""Downloads one file from a user's URL to disk: from public addresses only, within limits of bytes and time."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from craft.errors import CraftError, PayloadTooLarge, RequestInvalid, Unavailable
from craft.infra.http.outbound import OutboundPolicy, OutboundTransport

_MAX_REDIRECTS = 5
_MAX_EXPLAINED_BYTES = 2000
_CONNECT_SECONDS = 10.0
_PARAM = "source"
_HIDDEN = frozenset({401, 403, 404, 410})
_BUSY = frozenset({408, 425, 429})
Explain = Callable[[httpx.Response, bytes], CraftError | None]
"""Turns a refusal, with the first 2,000 bytes of its body, into an error; None for the usual error of its status."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download. Secret `headers` go to the first host only."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    redirects: bool = True
    explain: Explain = lambda _response, _body: None


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes and seconds that a download may take."""

    max_bytes: int
    seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that arrived whole. `headers` are those of each response, redirects first."""

    bytes: int
    sha256: str
    headers: tuple[httpx.Headers, ...]

    def first(self, name: str) -> str | None:
        """The value of a header in the first response that has it."""
        return next((found for headers in self.headers if (found := headers.get(name))), None)


_NO_REUSE = httpx.Limits(max_keepalive_connections=0)


class Fetcher:
    """Downloads files. The outbound policy is applied to each redirect too."""

    def __init__(self, policy: OutboundPolicy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits

    def fetch(self, file: RemoteFile, target: Path) -> Fetched:
        """Raises RequestInvalid if the source refuses or may not be called, PayloadTooLarge, Unavailable."""
        try:
            return asyncio.run(self._within_time(file, target))
        except (RequestInvalid, Unavailable) as error:
            raise type(error)(error.message, hint=error.hint, param=_PARAM) from error

    async def _within_time(self, file: RemoteFile, target: Path) -> Fetched:
        try:
            # This bounds the whole download: a source may send its headers byte by byte and never be idle.
            async with asyncio.timeout(self._limits.seconds):
                return await self._fetched(file, target)
        except TimeoutError:
            raise Unavailable(
                f"The source had not sent everything after {self._limits.seconds:g} s.", hint="Upload the file instead."
            ) from None
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"The source sent nothing for {self._limits.idle_seconds:g} s.", hint="Try again, or upload the file."
            ) from error
        except httpx.TooManyRedirects as error:
            raise RequestInvalid(
                f"The source redirects more than {_MAX_REDIRECTS} times.", hint="Name the file's own address."
            ) from error
        except httpx.InvalidURL as error:
            raise RequestInvalid(f"This is no URL: {str(error)[:200]}", hint="Name the file's own address.") from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The source broke off, or speaks no HTTP: {str(error)[:200] or type(error).__name__}",
                hint="Nothing was stored; try again, or upload the file.",
            ) from error

    async def _fetched(self, file: RemoteFile, target: Path) -> Fetched:
        limit = self._limits.idle_seconds
        client = httpx.AsyncClient(
            # Each redirect gets a connection of its own: a server may hang up after it.
            transport=OutboundTransport(self._policy, httpx.AsyncHTTPTransport(trust_env=False, limits=_NO_REUSE)),
            timeout=httpx.Timeout(limit, connect=min(limit, _CONNECT_SECONDS)),
            follow_redirects=file.redirects,
            max_redirects=_MAX_REDIRECTS,
            trust_env=False,
        )
        # A packed body would be unpacked in memory, where a small one can become large.
        headers = {"Accept-Encoding": "identity", "User-Agent": "craft", **file.headers}
        async with client, client.stream("GET", file.url, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                body = await _beginning(response)
                raise file.explain(response, body) or _refusal(response.status_code)
            size, digest = await self._written(response, target)
            passed = (*(each.headers for each in response.history), response.headers)
            return Fetched(bytes=size, sha256=digest, headers=passed)

    async def _written(self, response: httpx.Response, target: Path) -> tuple[int, str]:
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limits.max_bytes:
            raise self._too_large()
        size, digest = 0, hashlib.sha256()
        with target.open("wb") as file:
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > self._limits.max_bytes:
                    raise self._too_large()
                digest.update(chunk)
                file.write(chunk)
        return size, digest.hexdigest()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The source has more than the {self._limits.max_bytes:,} bytes that are fetched.",
            hint="Name a smaller file; Parquet is the smallest form of a dataset.",
            param=_PARAM,
        )


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= _MAX_EXPLAINED_BYTES:
            break
    return body[:_MAX_EXPLAINED_BYTES]


def _refusal(status: int) -> CraftError:
    if status >= 500 or status in _BUSY:
        return Unavailable(f"The source answers {status}.", hint="Try again soon, or upload the file.")
    if status in _HIDDEN:
        return RequestInvalid(
            f"The source answers {status}: there is no such file, or this service may not read it.",
            hint="Check address and permissions, or upload the file.",
        )
    return RequestInvalid(f"The source answers {status}, not 200.", hint="Name the file's own address.")
