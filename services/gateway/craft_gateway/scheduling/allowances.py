"""Quotas: a team's limits, and its use of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from craft.contracts.public.accounts import TeamSettings
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.store.tables import Attempt, Job, Team

_COUNTED = [status for status in JobStatus if status.counts_as_running]
_UNFINISHED = [status for status in JobStatus if not status.terminal]
ON_ACCELERATORS = [service for service in Service if service.uses_accelerator]
"""The queues whose stages take an accelerator."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TeamAllowances:
    """The teams of this installation."""

    named: Mapping[str, TeamSettings] = field(default_factory=dict)

    def allowance(self, team: str) -> TeamSettings:
        """The team's weight and limits; an unknown team has an ordinary share and no limits."""
        return self.named.get(team, _ORDINARY)


def team_allowances(session: Session) -> TeamAllowances:
    """All teams, in one query."""
    return TeamAllowances(
        {
            row.name: TeamSettings(
                weight=row.weight,
                max_running_jobs=row.max_running_jobs,
                gpu_seconds_per_day=row.gpu_seconds_per_day,
                gpu_seconds_per_job=row.gpu_seconds_per_job,
                max_unfinished_jobs=row.max_unfinished_jobs,
            )
            for row in session.exec(select(Team))
        }
    )


def at_running_jobs_quota(session: Session, team: str, allowance: TeamSettings) -> bool:
    """True if as many of the team's jobs run as may at once."""
    most = allowance.max_running_jobs
    return most is not None and begun_jobs(session, team) >= most


def begun_jobs(session: Session, team: str) -> int:
    """The number of the team's jobs that have begun and not ended."""
    begun = select(func.count()).select_from(Job).where(col(Job.status).in_(_COUNTED), Job.team == team)
    return session.exec(begun).one()


def unfinished_jobs(session: Session, team: str) -> int:
    """The number of the team's jobs that have not ended."""
    waiting = select(func.count()).select_from(Job).where(col(Job.status).in_(_UNFINISHED), Job.team == team)
    return session.exec(waiting).one()


def gpu_seconds_of_job(session: Session, job_id: str, now: datetime) -> float:
    """Seconds on accelerators of all the job's attempts, ended or not."""
    return _gpu_seconds(session, col(Attempt.job_id) == job_id, now, ended=col(Attempt.ended_at).is_not(None))


def over_gpu_quota(session: Session, team: str, allowance: TeamSettings, now: datetime) -> bool:
    """True if the team has used its GPU seconds of the last 24 hours."""
    quota = allowance.gpu_seconds_per_day
    return quota is not None and gpu_seconds(session, team, now) >= quota


def teams_over_gpu_quota(session: Session, teams: TeamAllowances, now: datetime) -> frozenset[str]:
    """The teams that have used their GPU seconds of the last 24 hours."""
    named = teams.named.items()
    return frozenset(team for team, allowance in named if over_gpu_quota(session, team, allowance, now))


def gpu_seconds(session: Session, team: str, now: datetime) -> float:
    """Seconds of the team's stages on accelerators, of attempts that run or that ended in the last 24 hours."""
    return _gpu_seconds(session, col(Attempt.team) == team, now, ended=col(Attempt.ended_at) > now - _DAY)


def _gpu_seconds(session: Session, owned: ColumnElement[bool], now: datetime, *, ended: ColumnElement[bool]) -> float:
    """Seconds on accelerators of the `owned` attempts that run, and of those that `ended` admits."""
    of_owner = (owned, col(Attempt.queue).in_(ON_ACCELERATORS))
    whole = session.exec(select(func.sum(Attempt.seconds)).where(*of_owner, ended)).one()
    running = session.exec(select(Attempt.started_at).where(*of_owner, col(Attempt.ended_at).is_(None)))
    return (whole or 0.0) + sum(max(0.0, (now - start).total_seconds()) for start in running)


_ORDINARY = TeamSettings()
