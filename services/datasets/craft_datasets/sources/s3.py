"""How a request to S3 shows whose it is: AWS Signature Version 4, by botocore, which is imported when it is needed."""

from collections.abc import Callable
from typing import Any

Sign = Callable[[str], dict[str, str]]
"""The headers that a GET of a URL needs; none where everybody may read it."""
FindCredentials = Callable[[], Any]
"""botocore's credentials, or None."""


def own_credentials() -> Any:
    """The service's, found where AWS's own tools look: the environment, shared files, the machine's role."""
    from botocore.session import get_session

    return get_session().get_credentials()


def signer(region: str, credentials: FindCredentials = own_credentials) -> Sign:
    """Signs for one region with what `credentials` finds at each request, so that a role's are renewed."""

    def sign(url: str) -> dict[str, str]:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        found = credentials()
        if found is None:
            return {}
        request = AWSRequest(method="GET", url=url)
        S3SigV4Auth(found.get_frozen_credentials(), "s3", region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    return sign
