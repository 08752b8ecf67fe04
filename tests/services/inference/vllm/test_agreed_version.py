"""A server of another version than the job was accepted with answers none of its prompts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from craft.errors import DeploymentChanged
from craft_inference.vllm.agreed_version import lease_agreed
from craft_inference.vllm.client import VllmSession


class Session:
    """An opened session with a server."""

    version = "0.32.1+cu130"


@asynccontextmanager
async def lease(base: str) -> AsyncIterator[VllmSession]:
    assert base == "a model"
    yield cast("VllmSession", Session())


def open_with(versions: str) -> str:
    async def go() -> str:
        async with lease_agreed(lease, versions=versions)("a model") as session:
            return session.version

    return asyncio.run(go())


def test_another_version_is_refused_before_the_first_request() -> None:
    with pytest.raises(DeploymentChanged, match=r"vllm 0\.32\.0, and this worker has vllm 0\.32\.1"):
        open_with("vllm 0.32.0")


@pytest.mark.parametrize("versions", ["vllm 0.32.1", ""])
def test_the_agreed_version_is_taken_and_without_one_any(versions: str) -> None:
    assert open_with(versions) == Session.version
