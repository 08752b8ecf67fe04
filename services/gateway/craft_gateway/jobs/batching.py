"""Submissions that come while others are being stored are stored together next, in one transaction (ADR 0011)."""

from anyio.to_thread import run_sync

from craft.contracts.public.jobs import JobView
from craft_gateway.concurrency import Batcher
from craft_gateway.jobs.submission import Submission, Submissions


class BatchedSubmissions:
    """`Submissions.submit` for many callers at once."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._batcher = Batcher(submissions.submit_many, busy="Too many jobs are being submitted just now.")

    async def submit(self, submission: Submission) -> JobView:
        """Raises what `Submissions.submit` raises, and Unavailable where too many wait.

        A submission that may be slow by itself does not delay the others.
        """
        if self._submissions.is_quick(submission.spec):
            return await self._batcher.ask(submission)
        return await run_sync(self._submissions.submit, submission)
