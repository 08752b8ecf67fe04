"""A dry run tells a team nothing of what other teams have computed; its own work counts, and jobs still share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import Rig, body, open_rig

from craft.contracts.public.accounts import TeamSettings

TEAMS = ("first", "second")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        for team in TEAMS:
            made.teams.put(team, TeamSettings())
        yield made


def asked(rig: Rig, path: str, team: str, **changes: Any) -> dict[str, Any]:
    answer = rig.post(f"/craft/{path}", json=body(**changes), headers={"Craft-Team": team})
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reused(rig: Rig, team: str) -> list[bool]:
    shown = asked(rig, "jobs/validate", team)
    marks = [stage["reused"] for stage in shown["stages"]]
    assert [stage["reused"] for stage in shown["estimate"]["stage_estimates"]] == marks
    assert shown["estimate"]["reused_stages"] == sum(marks)
    return marks


def test_a_dry_run_counts_as_reused_what_the_own_team_has_computed(rig: Rig) -> None:
    rig.finish(asked(rig, "jobs", "first")["id"])
    assert all(reused(rig, "first"))
    assert not any(reused(rig, "second"))


def test_the_cost_of_a_dry_run_is_that_of_rows_which_nobody_has_computed(rig: Rig) -> None:
    costs = ("stages", "prompts", "generated_tokens", "trained_samples", "optimiser_steps")
    before = asked(rig, "jobs/validate", "second")["estimate"]
    rig.finish(asked(rig, "jobs", "first")["id"])
    after = asked(rig, "jobs/validate", "second")["estimate"]
    assert {name: after[name] for name in costs} == {name: before[name] for name in costs}


def test_a_job_still_takes_over_the_work_of_another_team_which_is_the_own_teams_from_then_on(rig: Rig) -> None:
    rig.finish(asked(rig, "jobs", "first")["id"])
    job = asked(rig, "jobs", "second")["id"]
    stages = rig.get(f"/craft/jobs/{job}/stages", headers={"Craft-Team": "second"}).json()["data"]
    assert sum(stage["reused"] for stage in stages) > len(stages) / 2
    rig.finish(job)
    assert all(reused(rig, "second"))
