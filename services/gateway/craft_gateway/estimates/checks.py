"""Whether a team's quotas let a job run now, later or never."""

from collections.abc import Sequence

from craft.contracts.documents.estimate import Check, CheckOutcome
from craft_gateway.scheduling.duration_model import total


def running_jobs(begun: int, most: int | None, team: str) -> Check:
    """`begun` of the team's jobs run, `most` may."""
    if most is None:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=f"Team {team} has no limit.")
    told = f"Team {team} runs {begun} of at most {most} jobs."
    if begun < most:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=told)
    return Check(name="running_jobs", outcome=CheckOutcome.WAITS, message=told, hint="It begins when one of them ends.")


def gpu_seconds_left(needed: Sequence[float | None], spent: float, quota: float | None, team: str) -> Check:
    """`needed`: by each of the job's stages on an accelerator, None where that is not known."""
    if quota is None or not needed:
        told = f"Team {team} has no limit." if quota is None else "No stage needs an accelerator."
        return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=told)
    told = f"Team {team} has used {spent:,.0f} of its {quota:,.0f} GPU seconds of the last 24 hours."
    if quota == 0:
        hint = f"Have an operator raise gpu_seconds_per_day with PUT /craft/teams/{team}."
        return Check(name="gpu_seconds", outcome=CheckOutcome.NEVER, message=told, hint=hint)
    if spent >= quota:
        hint = "It waits until the oldest of them are a day old."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=told, hint=hint)
    whole = total(needed)
    if whole is None:
        hint = "How many this job needs is not known as yet."
        return Check(name="gpu_seconds", outcome=CheckOutcome.UNKNOWN, message=told, hint=hint)
    told += f" This job needs about {whole:,.0f}."
    if spent + whole > quota:
        # A stage that has begun runs to its end; only the next one waits.
        hint = "Its later stages wait for a day to pass."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=told, hint=hint)
    return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=told)
