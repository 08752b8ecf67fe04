"""Long stages give way: after a slice of time to a stage of another team that waits, and where a quota is used up.

A stage that gives way is ready again at once, and goes on at its last shard or checkpoint when its team's turn comes.
Each attempt saves something before it gives way to another team: else two teams whose shards take longer than a slice
would stop each other for ever.
"""

from datetime import datetime, timedelta

from sqlalchemy import or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft_gateway.scheduling.allowances import TeamAllowances, at_running_jobs_quota, over_gpu_quota
from craft_gateway.scheduling.fair_share import turns
from craft_gateway.store.tables import Job, Stage

_ON_ACCELERATORS = [service for service in Service if service.uses_accelerator]


def gives_way(
    session: Session, stage: Stage, teams: TeamAllowances, now: datetime, *, slice_seconds: float, saved: bool
) -> bool:
    """True if the running stage is to stop here: its team's GPU seconds are used up, or another team's turn has come.

    `saved`: its attempt has saved work; one that has not would lose all it did, each time. Stages off the accelerators
    are short, and go on.
    """
    if not stage.queue.uses_accelerator or not saved:
        return False
    if over_gpu_quota(session, stage.team, teams.allowance(stage.team), now):
        return True
    if stage.started_at is None or now - stage.started_at < timedelta(seconds=slice_seconds):
        return False
    return _anothers_turn(session, stage, teams, now)


def _anothers_turn(session: Session, stage: Stage, teams: TeamAllowances, now: datetime) -> bool:
    # Workers that share a device wait for it before they claim, so stages of both kinds of work may wait for this one.
    queues = [stage.queue] if stage.device is None else _ON_ACCELERATORS
    twin = aliased(Stage)
    # No worker may have such a stage now. If it waits for this one's own result, giving way would only delay both.
    at_work = exists().where(col(twin.key) == col(Stage.key), col(twin.status) == StageStatus.RUNNING)
    waiting = select(Stage.queue, Stage.team).join(Job, col(Job.id) == col(Stage.job_id))
    waiting = waiting.where(
        col(Stage.queue).in_(queues),
        Stage.status == StageStatus.READY,
        Stage.team != stage.team,
        ~at_work,
        or_(col(Stage.not_before).is_(None), col(Stage.not_before) <= now),
    )
    found = set(session.exec(waiting.where(col(Job.status) == JobStatus.RUNNING).distinct()))
    begin = set(session.exec(waiting.where(col(Job.status) == JobStatus.QUEUED).distinct()))
    found |= {(queue, team) for queue, team in begin if not _full(session, team, teams)}
    served = {(queue, team) for queue, team in found if not over_gpu_quota(session, team, teams.allowance(team), now)}
    if any(queue is not stage.queue for queue, _ in served):
        return True
    rivals = {team for _, team in served}
    return bool(rivals) and turns(session, stage.queue, {*rivals, stage.team}, teams, now)[0].team != stage.team


def _full(session: Session, team: str, teams: TeamAllowances) -> bool:
    return at_running_jobs_quota(session, team, teams.allowance(team))
