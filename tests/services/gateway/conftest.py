"""Fixtures of the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.gateway.rigs.postgres import URL
from tests.services.gateway.rigs.world import World, new_world, postgres_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path) as world:
        yield world


@pytest.fixture
def postgres() -> Iterator[World]:
    with postgres_world(URL) as world:
        yield world
