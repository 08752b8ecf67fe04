"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest

_OF_TESTS = "CRAFT_TEST_"
"""Names the servers that some tests need: these are no settings of the system."""


@pytest.fixture(scope="session", autouse=True)
def no_exported_settings() -> Iterator[None]:
    """Tests, and the processes that they start, begin with the defaults, whatever the developer's shell exports."""
    exported = [name for name in os.environ if name.startswith("CRAFT_") and not name.startswith(_OF_TESTS)]
    with pytest.MonkeyPatch.context() as environment:
        for name in exported:
            environment.delenv(name)
        yield
