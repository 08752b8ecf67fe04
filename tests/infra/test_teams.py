"""Teams come from a file; a wrong one is refused before anything starts."""

from pathlib import Path

import pytest

from craft.errors import RequestInvalid
from craft.infra.teams import Allowance, Teams, teams_of


def test_without_a_file_there_is_the_default_team_without_limits() -> None:
    teams = teams_of(None)
    assert teams.known("default") == "default"
    assert teams.allowance("default") == Allowance(weight=1.0, max_running_jobs=None, gpu_seconds_per_day=None)


def test_a_file_names_teams_with_weights_and_quotas(tmp_path: Path) -> None:
    path = tmp_path / "teams.toml"
    path.write_text("[search]\nweight = 2\nmax_running_jobs = 4\n\n[support]\ngpu_seconds_per_day = 3600\n")
    teams = teams_of(path)
    assert teams.allowance("search") == Allowance(weight=2.0, max_running_jobs=4)
    assert teams.allowance("support") == Allowance(gpu_seconds_per_day=3600.0)


def test_an_unknown_team_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestInvalid, match="no team nobody") as refused:
        Teams({"search": Allowance()}).known("nobody")
    assert refused.value.hint == "The teams are default, search."


def test_a_team_that_left_the_file_keeps_an_ordinary_share() -> None:
    assert Teams().allowance("gone") == Allowance()


@pytest.mark.parametrize(
    "text",
    ["[search]\nweight = 0\n", "[search]\nweight = nan\n", "[search]\nspeed = 1\n", "[Söarch]\n", "search = 1\n", "[["],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "teams.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"teams\.toml"):
        teams_of(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.toml"):
        teams_of(tmp_path / "nowhere.toml")
