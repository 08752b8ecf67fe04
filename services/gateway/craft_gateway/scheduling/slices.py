"""Long stages give way: after a slice of time to a stage of another team that waits, and where a quota is used up.

A stage that gives way is ready again at once, and goes on at its last shard or checkpoint when its team's turn comes.
Each attempt saves something before it gives way to another team: else two teams whose shards take longer than a slice
would stop each other for ever.
"""

from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from craft.contracts.spec.jobs import JobStatus
from craft_gateway.scheduling.allowances import ON_ACCELERATORS, TeamAllowances, at_running_jobs_quota, over_gpu_quota
from craft_gateway.scheduling.fair_share import takeable, turns
from craft_gateway.store.tables import Job, Stage


def gives_way(
    session: Session, stage: Stage, teams: TeamAllowances, now: datetime, *, slice_seconds: float, saved: bool
) -> bool:
    """True if the running stage is to stop here: its team's GPU seconds are used up, or another team's turn has come.

    `stage` is on an accelerator. `saved`: its attempt has saved work; one that has not would lose all it did, each
    time.
    """
    if not saved:
        return False
    if over_gpu_quota(session, stage.team, teams.allowance(stage.team), now):
        return True
    if stage.started_at is None or now - stage.started_at < timedelta(seconds=slice_seconds):
        return False
    return _anothers_turn(session, stage, teams, now)


def _anothers_turn(session: Session, stage: Stage, teams: TeamAllowances, now: datetime) -> bool:
    # Workers that share a device wait for it before they claim, so stages of both kinds of work may wait for this one.
    queues = [stage.queue] if stage.device is None else ON_ACCELERATORS
    waiting = select(Stage.queue, Stage.team).join(Job, col(Job.id) == col(Stage.job_id))
    # Not what waits for this stage's own result: giving way would only delay both.
    waiting = waiting.where(col(Stage.queue).in_(queues), Stage.team != stage.team, *takeable(now))
    found = set(session.exec(waiting.where(col(Job.status) == JobStatus.RUNNING).distinct()))
    begin = set(session.exec(waiting.where(col(Job.status) == JobStatus.QUEUED).distinct()))
    found |= {(queue, team) for queue, team in begin if not at_running_jobs_quota(session, team, teams.allowance(team))}
    served = {(queue, team) for queue, team in found if not over_gpu_quota(session, team, teams.allowance(team), now)}
    if any(queue is not stage.queue for queue, _ in served):
        return True
    rivals = {team for _, team in served}
    return bool(rivals) and turns(session, stage.queue, {*rivals, stage.team}, teams, now)[0].team != stage.team
