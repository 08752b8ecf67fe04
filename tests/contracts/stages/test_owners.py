"""The names of worker processes, and the places at which they run."""

import pytest

from craft.contracts.stages.claims import owner_at, place_of


def test_two_processes_at_one_place_are_two_owners_and_one_place() -> None:
    first, second = (owner_at("gpu-host-3", process, f"wrk_0{process}") for process in (11, 12))
    assert first != second
    assert place_of(first) == place_of(second) == "gpu-host-3"


@pytest.mark.parametrize("owner", ["worker", "new-worker-1", ""])
def test_an_owner_of_another_form_is_a_place_of_its_own(owner: str) -> None:
    assert place_of(owner) == owner
