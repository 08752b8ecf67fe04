"""The client of the coordinator's internal API: claim, renew, complete, fail, release."""

import json
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from craft.contracts.base import Contract
from craft.contracts.stages.claims import ANSWER_SECONDS, Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import Conflict, CraftError, NotFound, Unavailable
from craft.infra.http.problem_client import error_from_problem
from craft.infra.observe.telemetry import trace_headers

_TIMEOUT = httpx.Timeout(ANSWER_SECONDS, connect=3.0)
"""A renewal that hangs must fail long before the lease expires."""
ModelT = TypeVar("ModelT", bound=Contract)


class CoordinatorClient:
    """Calls the coordinator; safe to use from several threads.

    Every call raises Unavailable where the coordinator does not answer properly, LeaseLost where the fence is old, and
    otherwise the error that the problem document names.
    """

    def __init__(self, base_url: str, token: SecretStr, *, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=_TIMEOUT,
            transport=transport,
        )

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        """Claim the stage. None if it is unknown, taken, done or not ready."""
        try:
            return _parsed(self._post(stage_id, "claim", claim), ClaimedStage)
        except (NotFound, Conflict):
            return None

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        """Renew the lease and report the stage's progress."""
        return _parsed(self._post(stage_id, "renew", renew), Renewed)

    def complete(self, stage_id: str, complete: Complete) -> None:
        """Report the published artifact. Repeating the call with the same fence and manifest changes nothing."""
        self._post(stage_id, "complete", complete)

    def fail(self, stage_id: str, fail: Fail) -> None:
        """Report a failed attempt."""
        self._post(stage_id, "fail", fail)

    def release(self, stage_id: str, release: Release) -> None:
        """Give the stage back unfinished; this does not count as a failure."""
        self._post(stage_id, "release", release)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, stage_id: str, action: str, body: Contract) -> bytes:
        try:
            answer = self._client.post(
                f"/internal/stages/{quote(stage_id, safe='')}/{action}",
                content=body.model_dump_json().encode(),
                headers={"Content-Type": "application/json", **trace_headers()},
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"The coordinator does not answer: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise _error_of(answer)
        return answer.content


def _parsed(body: bytes, model: type[ModelT]) -> ModelT:
    try:
        received = json.loads(body)
        # A newer coordinator may send members that this worker does not know; they are dropped at the top level only.
        # An artifact's key is made of all parameters: without one of them another result would be stored under it.
        known = {name: received[name] for name in model.model_fields if name in received}
        return model.model_validate(known)
    except (ValueError, TypeError) as error:
        raise Unavailable(
            f"The coordinator's answer is no {model.__name__}.", hint="Worker and coordinator differ in version."
        ) from error


def _error_of(answer: httpx.Response) -> CraftError:
    """Unavailable for any 5xx or 429, because the call may be repeated; otherwise the problem document's error."""
    if answer.status_code >= 500 or answer.status_code == 429:
        return Unavailable(f"The coordinator answered {answer.status_code}.")
    return error_from_problem(answer, peer="The coordinator")
