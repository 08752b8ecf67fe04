"""Whatever one team sends, another team polls, submits and runs its job nearly as if it were alone."""

import pytest
from tests.security.two_teams.attacks import ATTACKS
from tests.security.two_teams.outcome import run

pytestmark = [pytest.mark.servers, pytest.mark.model, pytest.mark.timeout(1800)]


def test_no_attack_of_one_team_holds_up_another_team() -> None:
    outcomes = list(run(list(ATTACKS), print))
    assert [outcome.attack for outcome in outcomes] == list(ATTACKS)
    assert {outcome.attack: outcome.beyond for outcome in outcomes if outcome.beyond} == {}
