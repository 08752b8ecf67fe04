"""Checks whether a team's quotas let a job run now, later or never."""

from collections.abc import Sequence

from craft.contracts.documents.estimate import Check, CheckOutcome
from craft_gateway.scheduling.duration_model import total


def running_jobs(begun: int, most: int | None, team: str) -> Check:
    """Check the limit of running jobs: `begun` of the team's jobs run, `most` may."""
    if most is None:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=f"Team {team} has no limit.")
    message = f"Team {team} runs {begun} of at most {most} jobs."
    if begun < most:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=message)
    return Check(
        name="running_jobs", outcome=CheckOutcome.WAITS, message=message, hint="The job begins when one of them ends."
    )


def gpu_seconds_left(needed: Sequence[float | None], spent: float, quota: float | None, team: str) -> Check:
    """Check the quota of GPU seconds. `needed`: by each stage on an accelerator, None if that is unknown."""
    if quota is None or not needed:
        message = f"Team {team} has no limit." if quota is None else "No stage needs an accelerator."
        return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=message)
    message = f"Team {team} has used {spent:,.0f} of its {quota:,.0f} GPU seconds of the last 24 hours."
    if quota == 0:
        hint = f"Have an operator raise gpu_seconds_per_day with PUT /craft/teams/{team}."
        return Check(name="gpu_seconds", outcome=CheckOutcome.NEVER, message=message, hint=hint)
    if spent >= quota:
        hint = "The job waits until the oldest of them are a day old."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=message, hint=hint)
    whole = total(needed)
    if whole is None:
        hint = "How many this job needs is not known yet."
        return Check(name="gpu_seconds", outcome=CheckOutcome.UNKNOWN, message=message, hint=hint)
    message += f" This job needs about {whole:,.0f}."
    if spent + whole > quota:
        hint = "It stops when they are used up, and goes on where it was when enough of them are a day old."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=message, hint=hint)
    return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=message)


def gpu_seconds_of_one_job(needed: Sequence[float | None], limit: float | None, team: str) -> Check:
    """Check the limit of GPU seconds for one job; `needed` as in `gpu_seconds_left`."""
    if limit is None or not needed:
        return Check(name="gpu_seconds_of_job", outcome=CheckOutcome.PASSED, message=f"Team {team} has no such limit.")
    message = f"A job of team {team} may use {limit:,.0f} GPU seconds."
    whole = total(needed)
    if whole is None:
        hint = "How many this job needs is not known yet."
        return Check(name="gpu_seconds_of_job", outcome=CheckOutcome.UNKNOWN, message=message, hint=hint)
    message += f" This job needs about {whole:,.0f}."
    if whole <= limit:
        return Check(name="gpu_seconds_of_job", outcome=CheckOutcome.PASSED, message=message)
    hint = "Ask for fewer rows, samples or strategies: the job fails when it has used them."
    return Check(name="gpu_seconds_of_job", outcome=CheckOutcome.NEVER, message=message, hint=hint)
