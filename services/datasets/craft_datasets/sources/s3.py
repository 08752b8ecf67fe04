"""Signs requests to S3 with AWS Signature Version 4. botocore does it, and is imported when it is needed."""

from collections.abc import Callable
from typing import Any

Sign = Callable[[str], dict[str, str]]
"""Returns the headers that sign a GET of a URL; none where there are no credentials."""
FindCredentials = Callable[[], Any]
"""Returns botocore's credentials, or None."""


def own_credentials() -> Any:
    """The service's credentials, from where AWS's own tools look: environment, shared files, the machine's role."""
    from botocore.session import get_session

    return get_session().get_credentials()


def signer(region: str, credentials: FindCredentials = own_credentials) -> Sign:
    """Sign for one region. `credentials` is called for each request, because those of a role are renewed."""

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
