"""The order of a queue: weighted fair share between teams, then priority within a team, then the older job.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a team's virtual time grows by the seconds of its work divided by
its weight, and the team with the least goes next. A team that had no work for a while starts at the others' time: it
neither saves up its share nor loses it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.scheduling.allowances import TeamAllowances, at_running_jobs_quota, over_gpu_quota
from craft_gateway.store.tables import Attempt, Job, Stage, TeamShare

_CANDIDATES = 20
"""Stages that a claim looks at: more than one, because others may take them or make them needless meanwhile."""


class FairShareTurn(NamedTuple):
    """A team's turn on a queue: the one with the least `virtual_time` is next."""

    virtual_time: float
    team: str


def turns(
    session: Session, queue: Service, waiting: Iterable[str], teams: TeamAllowances, now: datetime
) -> list[FairShareTurn]:
    """The waiting teams in the order in which the queue serves them next."""
    shares = {share.team: share for share in session.exec(select(TeamShare).where(TeamShare.queue == queue))}
    system = _system_time(shares.values())
    running_time: dict[str, float] = {}
    running = select(Attempt.team, Attempt.started_at).where(Attempt.queue == queue, col(Attempt.ended_at).is_(None))
    for team, started_at in session.exec(running):
        elapsed = max(0.0, (now - started_at).total_seconds())
        running_time[team] = running_time.get(team, 0.0) + elapsed / teams.allowance(team).weight
    return sorted(
        FairShareTurn(max(system, shares[team].finished if team in shares else 0.0) + running_time.get(team, 0.0), team)
        for team in waiting
    )


def next_stages(session: Session, named: Stage, teams: TeamAllowances, now: datetime) -> list[Stage]:
    """Stages that a worker of the named stage's queue may do next, the best first; quotas are kept.

    Of one job's stages the named one goes first.
    """
    queue = named.queue
    ready = select(Stage.team).where(Stage.queue == queue, Stage.status == StageStatus.READY).distinct()
    found: list[Stage] = []
    for turn in turns(session, queue, session.exec(ready), teams, now):
        allowance = teams.allowance(turn.team)
        if queue.uses_accelerator and over_gpu_quota(session, turn.team, allowance, now):
            continue
        full = at_running_jobs_quota(session, turn.team, allowance)
        stages = _ready_of(session, queue, turn.team, now, only_begun=full)
        found += sorted(stages, key=lambda stage: (stage.rank, stage.job_id, stage.id != named.id))
        if len(found) >= _CANDIDATES:
            break
    return found


def note_start(session: Session, attempt: Attempt) -> None:
    """Record that the team has used its turn."""
    own = _share(session, attempt.queue, attempt.team)
    others = session.exec(select(TeamShare).where(TeamShare.queue == attempt.queue))
    # Without the attempts that run: they are charged when they end, and would move the other teams' time too.
    own.finished = own.started = max(own.finished, _system_time(others))


def _share(session: Session, queue: Service, team: str) -> TeamShare:
    """The team's row, locked; a new one where it has none."""
    share = session.get(TeamShare, (queue, team), with_for_update=True)
    if share is not None:
        return share
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    new = insert(TeamShare).values(queue=queue, team=team, started=0.0, finished=0.0)
    # A team's first two claims may come at the same moment: the second one waits here, and finds the first one's row.
    session.connection().execute(new.on_conflict_do_nothing())
    return session.get_one(TeamShare, (queue, team), with_for_update=True)


def charge(session: Session, attempt: Attempt) -> None:
    """Count the seconds of an attempt that has ended, at the weight that the team had."""
    share = session.get(TeamShare, (attempt.queue, attempt.team), with_for_update=True)
    if share is not None:
        share.finished += (attempt.seconds or 0.0) / attempt.weight


def _system_time(shares: Iterable[TeamShare]) -> float:
    return max((share.started for share in shares), default=0.0)


def takeable(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Conditions of a stage that a worker may take now: ready, its pause over, and its key not at work elsewhere."""
    twin = aliased(Stage)
    at_work = exists().where(col(twin.key) == col(Stage.key), col(twin.status) == StageStatus.RUNNING)
    due = or_(col(Stage.not_before).is_(None), col(Stage.not_before) <= now)
    return (col(Stage.status) == StageStatus.READY, due, ~at_work)


def _ready_of(session: Session, queue: Service, team: str, now: datetime, *, only_begun: bool) -> list[Stage]:
    waiting = select(Stage).where(Stage.queue == queue, Stage.team == team, *takeable(now))
    if only_begun:
        waiting = waiting.join(Job, col(Job.id) == col(Stage.job_id)).where(Job.status == JobStatus.RUNNING)
    # The index's own order: a finer one would sort all that waits.
    return list(session.exec(waiting.order_by(col(Stage.rank), col(Stage.job_id)).limit(_CANDIDATES)))
