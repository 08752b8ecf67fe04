"""The Python client of CRaFT as a service: `Client("http://127.0.0.1:8080").jobs.create({...}).wait()`.

`AsyncClient` has the same methods, as coroutines.
"""

from craft_client.aio.client import AsyncClient
from craft_client.aio.handles import AsyncJobHandle
from craft_client.config import DEFAULT_URL
from craft_client.errors import (
    ApiError,
    ClientError,
    ConfigError,
    InvalidId,
    JobFailed,
    ServerUnreachable,
    UnexpectedAnswer,
)
from craft_client.sync.client import Client
from craft_client.sync.handles import JobHandle

__all__ = [
    "DEFAULT_URL",
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "ClientError",
    "ConfigError",
    "InvalidId",
    "JobFailed",
    "JobHandle",
    "ServerUnreachable",
    "UnexpectedAnswer",
]
