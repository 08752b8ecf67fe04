"""Python client of CRaFT as a service: `Client("http://127.0.0.1:8080").jobs.create({...}).wait()`."""

from craft_client.client import Client, Datasets, JobHandle, Jobs
from craft_client.errors import ApiError, JobFailed, ServerUnreachable

__all__ = ["ApiError", "Client", "Datasets", "JobFailed", "JobHandle", "Jobs", "ServerUnreachable"]
