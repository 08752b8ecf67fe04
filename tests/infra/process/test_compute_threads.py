"""Tests of the environment in which processes compute."""

from pathlib import Path

from craft.infra.process.compute_threads import SPINS, with_short_spins

DOCKERFILE = Path(__file__).parents[3] / "services" / "Dockerfile"


def test_threads_spin_shortly() -> None:
    assert with_short_spins({"HOME": "/root"}) == {"HOME": "/root", **SPINS}


def test_an_operators_own_choice_stays() -> None:
    assert with_short_spins({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    assert with_short_spins({"OMP_WAIT_POLICY": "ACTIVE"}) == {"OMP_WAIT_POLICY": "ACTIVE"}


def test_the_images_have_the_same_values() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert all(f"    {name}={value} \\\n" in text for name, value in SPINS.items())
