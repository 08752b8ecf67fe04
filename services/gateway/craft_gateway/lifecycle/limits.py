"""Limits of a team that are kept while a stage runs, at each renewal of its lease."""

from craft.contracts.problems import StageError
from craft.contracts.stages.claims import Renew, Renewed
from craft.errors import QuotaExceeded
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.transitions import retry_or_fail
from craft_gateway.scheduling.allowances import TeamAllowances, gpu_seconds_of_job, team_allowances
from craft_gateway.scheduling.slices import gives_way
from craft_gateway.store.tables import Stage


def keep_limits(transaction: JobTransaction, stage: Stage, renew: Renew, settings: CoordinatorSettings) -> Renewed:
    """Stop the running stage where it has to give way; fail its job where that has used all it may.

    The limits are those of accelerators, so other stages cost no query.
    """
    if not stage.queue.uses_accelerator:
        return Renewed()
    teams = team_allowances(transaction.session)
    if (used_up := _job_used_up(transaction, stage, teams)) is not None:
        retry_or_fail(transaction, stage, StageError.of(used_up), max_attempts=settings.max_lost_attempts)
        return Renewed(stop=True)
    saved = renew.progress is not None and renew.progress.saved
    slice_seconds = settings.slice_seconds
    stop = gives_way(transaction.session, stage, teams, transaction.now, slice_seconds=slice_seconds, saved=saved)
    return Renewed(stop=stop)


def _job_used_up(transaction: JobTransaction, stage: Stage, teams: TeamAllowances) -> QuotaExceeded | None:
    limit = teams.allowance(stage.team).gpu_seconds_per_job
    if limit is None:
        return None
    used = gpu_seconds_of_job(transaction.session, stage.job_id, transaction.now)
    if used < limit:
        return None
    return QuotaExceeded(
        f"The job has used {used:,.0f} GPU seconds; a job of team {stage.team} may use {limit:,.0f}.",
        hint="Ask for fewer rows, samples or strategies, or have an operator raise gpu_seconds_per_job.",
    )
