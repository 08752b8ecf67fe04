"""What each team may use, as it is at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, select

from craft.contracts.accounts import TeamSettings
from craft_gateway.tables import Team

_ORDINARY = TeamSettings()


@dataclass(frozen=True, slots=True)
class Teams:
    """The teams of this installation."""

    named: Mapping[str, TeamSettings] = field(default_factory=dict)

    def allowance(self, team: str) -> TeamSettings:
        """What the team may use; one that is not known has an ordinary share and no limits."""
        return self.named.get(team, _ORDINARY)


def teams_in(session: Session) -> Teams:
    """All teams, in one query."""
    return Teams(
        {
            row.name: TeamSettings(
                weight=row.weight,
                max_running_jobs=row.max_running_jobs,
                gpu_seconds_per_day=row.gpu_seconds_per_day,
            )
            for row in session.exec(select(Team))
        }
    )
