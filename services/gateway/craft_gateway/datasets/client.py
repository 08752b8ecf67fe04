"""Client of the datasets service, which checks rows and keeps them as an artifact."""

from collections.abc import Mapping
from typing import BinaryIO, Protocol

import httpx
import orjson
from pydantic import SecretStr, ValidationError

from craft.contracts.problems import Problem
from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.contracts.services.datasets import TEAM_HEADER, DatasetStored, FetchRequest, Reading
from craft.errors import (
    CraftError,
    DatasetInvalid,
    DiskFull,
    ErrorDetail,
    HostOutOfMemory,
    Internal,
    PayloadTooLarge,
    RateLimited,
    RequestInvalid,
    Unavailable,
)
from craft.infra.observe.telemetry import trace_headers

_PASSED_ON: Mapping[str, type[CraftError]] = {
    error.code: error
    for error in (DatasetInvalid, RequestInvalid, PayloadTooLarge, RateLimited, DiskFull, HostOutOfMemory, Unavailable)
}
_TIMEOUT = httpx.Timeout(10.0, read=300.0)
"""The answer comes after the check of a million rows."""
_FETCHING = httpx.Timeout(10.0, read=600.0)
"""Before the check the service downloads the source."""


class DatasetsClient(Protocol):
    """The calls of the datasets service that the gateway makes.

    Both raise DatasetInvalid with row errors, DiskFull, RateLimited where the team has enough under way, and
    Unavailable where the service does not answer.
    """

    def store_file(
        self, file: BinaryIO, reading: Reading, *, team: str = DEFAULT_TEAM, chat_lines: bool = False
    ) -> DatasetStored:
        """Check an uploaded file and keep it. `chat_lines`: each line is a chat in OpenAI's form."""
        ...

    def store_source(self, request: FetchRequest, *, team: str = DEFAULT_TEAM) -> DatasetStored:
        """Fetch a file and do the same. Raises RequestInvalid and PayloadTooLarge too."""
        ...


class HttpDatasetsClient:
    """Calls the service by HTTP. Uploads are streamed, never held in memory."""

    def __init__(self, base_url: str, *, token: SecretStr, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=_TIMEOUT, transport=transport)

    def store_file(
        self, file: BinaryIO, reading: Reading, *, team: str = DEFAULT_TEAM, chat_lines: bool = False
    ) -> DatasetStored:
        """See `DatasetsClient.store_file`."""
        # The caller's file name stays here: the service decides by the bytes.
        return self._call(
            self._http.build_request(
                "POST",
                "/v1/datasets",
                headers={TEAM_HEADER: team},
                files={"file": ("upload", file, "application/octet-stream")},
                data={
                    **({"task": reading.task.value} if reading.task else {}),
                    "format": reading.format.value,
                    "columns": orjson.dumps(reading.columns).decode(),
                    **({} if reading.answer_base is None else {"answer_base": str(reading.answer_base)}),
                    "accept": [code.value for code in reading.accept],
                    **({"chat_lines": "true"} if chat_lines else {}),
                },
            )
        )

    def store_source(self, request: FetchRequest, *, team: str = DEFAULT_TEAM) -> DatasetStored:
        """See `DatasetsClient.store_source`."""
        body, headers = request.model_dump_json().encode(), {"content-type": "application/json", TEAM_HEADER: team}
        return self._call(
            self._http.build_request("POST", "/v1/datasets/source", content=body, headers=headers, timeout=_FETCHING)
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, request: httpx.Request) -> DatasetStored:
        request.headers.update(trace_headers())
        try:
            response = self._sent(request)
        except httpx.HTTPError as error:
            raise _unavailable() from error
        if not response.is_success:
            raise _error_of(response)
        try:
            return DatasetStored.model_validate_json(response.content)
        except ValidationError as error:
            raise _unavailable() from error

    def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # The service closes idle connections, one perhaps while it is used again. To store the same twice is safe.
            return self._http.send(request)


def _error_of(response: httpx.Response) -> CraftError:
    """The service's own error where the caller can act on it; Unavailable for any other."""
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Internal(
            "The datasets service refuses this gateway's token.", hint="Set the same CRAFT_SERVICE_TOKEN in both."
        )
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return _unavailable()
    kind = _PASSED_ON.get(problem.code)
    if kind is None:
        return _unavailable()
    details = [ErrorDetail(e.message, field=e.field, line=e.line, excerpt=e.excerpt) for e in problem.errors]
    if kind is DatasetInvalid:
        return DatasetInvalid(
            problem.detail,
            hint=problem.hint,
            param=problem.param,
            details=details,
            error_counts=problem.error_counts,
            findings=[finding.to_detail() for finding in problem.findings],
        )
    return kind(problem.detail, hint=problem.hint, param=problem.param, details=details)


def _unavailable() -> Unavailable:
    return Unavailable("The datasets service does not answer just now.", hint="Nothing was stored; send it again soon.")
