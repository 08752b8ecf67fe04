"""Calls MLflow's REST API; its errors mean either a later attempt (Unavailable) or people (PublishingRefused)."""

from typing import Any

import httpx

from craft.errors import PublishingRefused, Unavailable

_API = "api/2.0/mlflow"
_LATER = frozenset({408, 425, 429})


class MlflowCalls:
    """Calls of MLflow's API. Each raises PublishingRefused and Unavailable."""

    def __init__(self, client: httpx.Client, base: str) -> None:
        self._client = client
        self._base = base

    def get(self, path: str, **params: str) -> dict[str, Any]:
        """Send a GET to MLflow's API and return the answer."""
        return _body(self.send("GET", f"{_API}/{path}", params=params))

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """Send a POST to MLflow's API and return the answer."""
        return _body(self.send("POST", f"{_API}/{path}", json=body))

    def call_allowing(self, error_code: str, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        """Send a request to MLflow's API and return the answer; None if it is the error with that code."""
        answer = self.send(method, f"{_API}/{path}", allowed=error_code, **options)
        return _body(answer) if answer.is_success else None

    def send(self, method: str, path: str, *, allowed: str | None = None, **options: Any) -> httpx.Response:
        """Send a request to any path of MLflow; return a success, or an error with the code `allowed`."""
        try:
            answer = self._client.request(method, f"{self._base}/{path}", **options)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"MLflow does not answer: {type(error).__name__} {error}"[:500], hint="It is tried again automatically."
            ) from error
        if answer.is_success or (allowed is not None and _error(answer)[0] == allowed):
            return answer
        raise _refusal(answer)


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError as error:
        raise PublishingRefused(
            "What answers at CRAFT_PUBLISHING__MLFLOW__TRACKING_URI is no MLflow server.",
            hint="Set it to the address at which MLflow's page opens.",
        ) from error
    return dict(body)


def _error(answer: httpx.Response) -> tuple[str, str]:
    """Return MLflow's code and message; both are empty for a proxy's page."""
    try:
        body = answer.json()
        return str(body["error_code"]), str(body["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _refusal(answer: httpx.Response) -> PublishingRefused | Unavailable:
    code, message = _error(answer)
    text = f"MLflow answers {answer.status_code} {code}: {message}"[:500].rstrip(": ")
    if answer.status_code >= 500 or answer.status_code in _LATER:
        return Unavailable(text, hint="It is tried again automatically.")
    if answer.status_code in {401, 403}:
        hint = "Have an operator correct CRAFT_PUBLISHING__MLFLOW__USERNAME, __PASSWORD or __TOKEN; then publish again."
        return PublishingRefused(text, hint=hint)
    return PublishingRefused(text, hint="Correct what MLflow reports; then publish again.")
