"""Submissions as they come: those that come while jobs are being made are made together next."""

from collections.abc import Sequence

from anyio.to_thread import run_sync

from craft.contracts.public.jobs import JobView
from craft_gateway.concurrency import Batcher
from craft_gateway.job_views.reader import JobReader
from craft_gateway.jobs.submission import Submission, Submissions
from craft_gateway.lifecycle.creation import CreatedJob
from craft_gateway.store.tables import Job


class BatchedSubmissions:
    """Makes the jobs that are asked for, and shows them."""

    def __init__(self, submission: Submissions, reader: JobReader) -> None:
        self._submission = submission
        self._reader = reader
        self._together = Batcher(self._made, busy="Too many jobs are being submitted just now.")

    async def submit(self, asked: Submission) -> JobView:
        """See `Submission.submit_all` for what it raises; and Unavailable where too many wait.

        What may be slow by itself holds up nobody.
        """
        if self._submission.is_quick(asked.spec):
            return await self._together.ask(asked)
        [made] = await run_sync(self._made, [asked])
        if isinstance(made, Exception):
            raise made
        return made

    def _made(self, asked: Sequence[Submission]) -> list[JobView | Exception]:
        outcomes = self._submission.submit_all(asked)
        views = iter(self._shown([each.row for each in outcomes if isinstance(each, CreatedJob)]))
        return [next(views) if isinstance(each, CreatedJob) else each for each in outcomes]

    def _shown(self, jobs: Sequence[Job]) -> list[JobView | Exception]:
        try:
            return [*self._reader.shown(jobs)]
        except Exception as error:
            # Whatever is wrong with one of them is no other's concern.
            return [view for job in jobs for view in self._shown([job])] if len(jobs) > 1 else [error]
