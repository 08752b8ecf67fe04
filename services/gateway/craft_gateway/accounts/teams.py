"""Stores teams with their weights and quotas; operators change them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.public.accounts import MAX_TEAMS, TeamSettings
from craft.errors import Conflict, NotFound
from craft_gateway.events import record
from craft_gateway.scheduling.allowances import begun_jobs, gpu_seconds
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Team


@dataclass(frozen=True, slots=True)
class TeamUse:
    """A team and its use of the installation."""

    row: Team
    running_jobs: int
    gpu_seconds: float


class TeamRegistry:
    """The teams of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, settings: TeamSettings) -> tuple[TeamUse, bool]:
        """Create or change a team; return it and whether it is new. Raises Conflict if too many teams exist."""
        with self._database.write() as session:
            row = session.get(Team, name, with_for_update=True)
            now = self._database.now(session)
            new = row is None
            if row is None:
                if len(session.exec(select(Team.name).limit(MAX_TEAMS)).all()) == MAX_TEAMS:
                    raise Conflict(f"There are {MAX_TEAMS} teams already.")
                row = Team(name=name, created_at=now)
            row.sqlmodel_update(settings.model_dump())
            session.add(row)
            record(session, now, name, f"team:{name}", EventType.TEAM_CHANGED, **settings.model_dump())
            session.flush()
            return self._use(session, row), new

    def find(self, name: str) -> TeamUse:
        """Return one team. Raises NotFound."""
        with self._database.read() as session:
            row = session.get(Team, name)
            if row is None:
                raise NotFound("There is no team of this name.", hint="`GET /craft/teams` lists them.")
            return self._use(session, row)

    def all(self) -> Sequence[TeamUse]:
        """Return every team, in the order of the names."""
        with self._database.read() as session:
            return [self._use(session, row) for row in session.exec(select(Team).order_by(col(Team.name)))]

    def _use(self, session: Session, row: Team) -> TeamUse:
        return TeamUse(row, begun_jobs(session, row.name), gpu_seconds(session, row.name, self._database.now(session)))
