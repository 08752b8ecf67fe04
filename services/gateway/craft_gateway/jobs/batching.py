"""Submissions that come while others are being stored are stored together next, in one transaction (ADR 0011)."""

from craft.contracts.public.jobs import JobView
from craft.infra.http.turns import Turns
from craft_gateway.concurrency import Batcher
from craft_gateway.jobs.submission import Submission, Submissions


class BatchedSubmissions:
    """`Submissions.submit` for many callers at once."""

    def __init__(self, submissions: Submissions, *, slow: Turns) -> None:
        """`slow` gives turns to submissions that are not quick."""
        self._submissions = submissions
        self._slow = slow
        self._batcher = Batcher(submissions.submit_many, busy="Too many jobs are being submitted just now.")

    async def submit(self, submission: Submission) -> JobView:
        """Raises what `Submissions.submit` raises, Unavailable where too many wait, and RateLimited.

        A submission that may be slow by itself does not delay the others.
        """
        if self._submissions.is_quick(submission.spec):
            return await self._batcher.ask(submission)
        return await self._slow.run(submission.origin.team, self._submissions.submit, submission)
