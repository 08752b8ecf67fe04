"""Fixtures of the chaos tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.rig.small import Small
from tests.services.gateway.rigs.world import World, new_world

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them run with the servers' tests: they take minutes, and want programs that are installed there."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    with new_world(folder) as made:
        yield made


@pytest.fixture
def system(running: Small) -> Iterator[Small]:
    """The module's own `running`, whole before and after each test, with nothing broken in its records."""
    running.mend()
    yield running
    running.mend()
    running.until(lambda: not running.look.running())
    assert running.broken() == []
