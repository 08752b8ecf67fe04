"""A check of the workers' shared token, for routes that only the system's own processes may call."""

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.exceptions import HTTPException


def bearer_check(token: SecretStr) -> Callable[..., None]:
    """A dependency that answers 401 unless the request carries the token, compared in constant time."""
    scheme = HTTPBearer(auto_error=False, description="The workers' shared token.")

    def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        # A missing token is never valid, even where the configured token is empty.
        if credentials is None or not hmac.compare_digest(
            credentials.credentials.encode(), token.get_secret_value().encode()
        ):
            raise HTTPException(401, "The workers' token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    return check
