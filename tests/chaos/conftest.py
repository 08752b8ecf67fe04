"""Fixtures of the chaos tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.gateway.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    with new_world(folder) as made:
        yield made
