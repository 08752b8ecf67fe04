"""A handle on a submitted job."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.jobs import EventView, JobView
from craft.contracts.public.serving import AdapterDeployment
from craft.contracts.spec.jobs import JobStatus
from craft.core.strategies import Strategy
from craft_client.errors import JobFailed

if TYPE_CHECKING:
    from craft_client.aio.jobs import AsyncJobs


class AsyncJobHandle:
    """A job on the server. `view` is its last known view; `refresh` fetches a new one."""

    def __init__(self, jobs: "AsyncJobs", view: JobView) -> None:
        self._jobs = jobs
        self.view = view

    @property
    def id(self) -> str:
        """The job's id."""
        return self.view.id

    async def refresh(self) -> JobView:
        """Fetch the job's view again."""
        self.view = await self._jobs.get(self.id)
        return self.view

    async def wait(self, *, timeout_seconds: float = float("inf")) -> JobView:
        """Wait until the job ends. Raises JobFailed if it did not succeed, TimeoutError after `timeout_seconds`."""
        if not self.view.status.terminal:
            self.view = await self._jobs.wait_until_ended(self.id, until=time.monotonic() + timeout_seconds)
        if not self.view.status.terminal:
            raise TimeoutError(f"{self.id} is {self.view.status.value} after {timeout_seconds:g} seconds.")
        if self.view.status is not JobStatus.SUCCEEDED:
            raise JobFailed(self.view)
        return self.view

    async def stream(self, *, after: int = 0) -> AsyncIterator[EventView]:
        """All events from the first after `after` to the terminal one, also across lost connections."""
        async for event in self._jobs.stream(self.id, after=after):
            yield event

    async def cancel(self) -> JobView:
        """See `AsyncJobs.cancel`."""
        self.view = await self._jobs.cancel(self.id)
        return self.view

    async def pause(self) -> JobView:
        """See `AsyncJobs.pause`."""
        self.view = await self._jobs.pause(self.id)
        return self.view

    async def resume(self) -> JobView:
        """See `AsyncJobs.resume`."""
        self.view = await self._jobs.resume(self.id)
        return self.view

    async def deploy(self, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve the adapter. The result's `model` is its name in calls of `<server>/v1`."""
        return await self._jobs.deploy(self.id, strategy=strategy)

    async def download_adapter(self, target: Path | str, *, strategy: Strategy | str | None = None) -> Path:
        """Save the adapter as tar.gz (PEFT layout)."""
        return await self._jobs.adapter(self.id, target, strategy=strategy)

    async def report(self) -> ReportDocument:
        """The finished report."""
        return await self._jobs.report(self.id)

    async def download_report(self, target: Path | str, *, form: str = "html") -> Path:
        """Save the report, as `html` or `json`."""
        if form == "html":
            return await self._jobs.report_html(self.id, target)
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await self._jobs.report_json(self.id))
        return path
