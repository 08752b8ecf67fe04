"""Teams and what each may use: read once from a TOML file, a table for each team.

[search]
weight = 2.0
max_running_jobs = 4
gpu_seconds_per_day = 36000
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from craft.contracts.base import NAME
from craft.errors import RequestInvalid

DEFAULT_TEAM = "default"
"""Whose a job is where nobody says; it exists without a file too."""


class Allowance(BaseModel):
    """What a team may use. `weight` counts while several teams wait; None is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(1.0, gt=0.0, le=1e6, allow_inf_nan=False)
    max_running_jobs: int | None = Field(None, ge=1)
    gpu_seconds_per_day: float | None = Field(None, ge=0.0, allow_inf_nan=False)


_TEAMS: TypeAdapter[dict[str, Allowance]] = TypeAdapter(
    dict[Annotated[str, StringConstraints(pattern=NAME)], Allowance]
)


@dataclass(frozen=True, slots=True)
class Teams:
    """The teams of this installation."""

    named: Mapping[str, Allowance] = field(default_factory=dict)

    def known(self, team: str) -> str:
        """The team's own name. Raises RequestInvalid where there is no such team."""
        if team != DEFAULT_TEAM and team not in self.named:
            known = ", ".join(sorted({DEFAULT_TEAM, *self.named}))
            raise RequestInvalid(f"There is no team {team[:100]}.", hint=f"The teams are {known}.", param="Craft-Team")
        return team

    def allowance(self, team: str) -> Allowance:
        """What the team may use; one that the file no longer names has an ordinary share and no limits."""
        return self.named.get(team, _ORDINARY)


_ORDINARY = Allowance()
NO_TEAMS = Teams()
"""Only the default team, without limits."""


def teams_of(path: Path | None) -> Teams:
    """The teams of the file; without one there is only the default. Raises ValueError where the file is wrong."""
    if path is None:
        return NO_TEAMS
    try:
        return Teams(_TEAMS.validate_python(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"The teams file {path} cannot be used: {error}") from error
