"""HTTP with retries: calls that are safe to repeat are repeated when the connection fails or the server says 503."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx

from craft_client.errors import ApiError, ServerUnreachable

_RETRIED_STATUS = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE}
_LONGEST_PAUSE_SECONDS = 10.0


class Transport:
    """One connection pool to one server. `sleep` is for tests."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 60.0,
        retries: int = 4,
        http: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.base_url = base_url
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=httpx.Timeout(timeout_seconds, connect=5.0), transport=http
        )
        self._retries = retries
        self._sleep = sleep

    def close(self) -> None:
        """Close the pool."""
        self._http.close()

    def get(self, path: str, *, params: Mapping[str, Any] | None = None) -> httpx.Response:
        """GET, with retries. Raises ApiError, ServerUnreachable."""
        return self._retried(lambda: self._http.get(path, params=params))

    def post(self, path: str, *, json: object = None) -> httpx.Response:
        """POST under one Idempotency-Key for all tries, so that a retry after a lost answer does nothing twice."""
        headers = {"Idempotency-Key": uuid4().hex}
        return self._retried(lambda: self._http.post(path, json=json, headers=headers))

    def put(self, path: str) -> httpx.Response:
        """PUT, with retries: twice is as once."""
        return self._retried(lambda: self._http.put(path))

    def delete(self, path: str) -> httpx.Response:
        """DELETE, with retries: twice is as once."""
        return self._retried(lambda: self._http.delete(path))

    def upload(self, path: str, *, file: IO[bytes], name: str, fields: Mapping[str, str]) -> httpx.Response:
        """POST a file as multipart. The file is rewound for each try."""

        def send() -> httpx.Response:
            file.seek(0)
            return self._http.post(path, files={"file": (name, file)}, data=dict(fields), timeout=None)

        return self._retried(send)

    @contextmanager
    def stream(self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """A streamed GET without a read limit below the server's ping. No retries: the caller knows where it was."""
        timeout = httpx.Timeout(60.0, connect=5.0)
        with self._http.stream("GET", path, params=params, headers=dict(headers), timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise ApiError.of(response)
            yield response

    def download(self, path: str, target: Path, *, params: Mapping[str, str]) -> None:
        """Save a body to `target`, whole or not at all."""
        draft = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.stream(path, params=params, headers={}) as response, draft.open("wb") as file:
            for block in response.iter_bytes():
                file.write(block)
        draft.replace(target)

    def _retried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = send()
            except httpx.TransportError as error:
                if last:
                    raise ServerUnreachable(f"No answer from {self.base_url}: {error}") from error
                self._sleep(min(0.5 * 2**attempt, _LONGEST_PAUSE_SECONDS))
                continue
            if response.is_success:
                return response
            if last or response.status_code not in _RETRIED_STATUS:
                raise ApiError.of(response)
            self._sleep(min(float(response.headers.get("Retry-After", 1)), _LONGEST_PAUSE_SECONDS))
        raise AssertionError("the loop returns or raises")
