"""Fixtures of the deployment tests."""

import pytest
from tests.deployment.files import OVERLAYS, Document, Process, compose_processes, kubernetes_processes, rendered


@pytest.fixture(params=OVERLAYS)
def manifest_set(request: pytest.FixtureRequest) -> tuple[Document, ...]:
    """The rendered manifests of an overlay."""
    return rendered(request.param)


@pytest.fixture(params=["compose", *OVERLAYS])
def processes(request: pytest.FixtureRequest) -> list[Process]:
    """All containers of a way to deploy."""
    if request.param == "compose":
        return compose_processes()
    return kubernetes_processes(rendered(request.param))
