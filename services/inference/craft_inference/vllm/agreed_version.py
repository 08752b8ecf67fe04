"""Holds the version of the vLLM that answers against the one with which the job was accepted."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ParamSpec

from craft.infra.device.deployment import check_versions, vllm_version
from craft_inference.vllm.client import VllmSession

P = ParamSpec("P")
Lease = Callable[P, AbstractAsyncContextManager[VllmSession]]


def lease_agreed(lease: Lease[P], *, versions: str) -> Lease[P]:
    """The same leases, of servers of these versions alone: opening one raises DeploymentChanged for another.

    Without versions, as in jobs that were accepted without, every server will do.
    """

    @asynccontextmanager
    async def opened(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[VllmSession]:
        async with lease(*args, **kwargs) as session:
            check_versions(versions, vllm_version(session.version), setting="CRAFT_INFERENCE__VERSIONS")
            yield session

    return opened
