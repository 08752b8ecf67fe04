# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""A handle on a submitted job."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.jobs import EventView, JobView
from craft.contracts.public.serving import AdapterDeployment
from craft.contracts.spec.jobs import JobStatus
from craft.core.strategies import Strategy
from craft_client.errors import JobFailed

if TYPE_CHECKING:
    from craft_client.sync.jobs import Jobs


class JobHandle:
    """A job on the server. `view` is its last known view; `refresh` fetches a new one."""

    def __init__(self, jobs: "Jobs", view: JobView) -> None:
        self._jobs = jobs
        self.view = view

    @property
    def id(self) -> str:
        """The job's id."""
        return self.view.id

    def refresh(self) -> JobView:
        """Fetch the job's view again."""
        self.view = self._jobs.get(self.id)
        return self.view

    def wait(self, *, timeout_seconds: float = float("inf")) -> JobView:
        """Wait until the job ends. Raises JobFailed if it did not succeed, TimeoutError after `timeout_seconds`."""
        if not self.view.status.terminal:
            self.view = self._jobs.wait_until_ended(self.id, until=time.monotonic() + timeout_seconds)
        if not self.view.status.terminal:
            raise TimeoutError(f"{self.id} is {self.view.status.value} after {timeout_seconds:g} seconds.")
        if self.view.status is not JobStatus.SUCCEEDED:
            raise JobFailed(self.view)
        return self.view

    def stream(self, *, after: int = 0) -> Iterator[EventView]:
        """All events from the first after `after` to the terminal one, also across lost connections."""
        for event in self._jobs.stream(self.id, after=after):
            yield event

    def cancel(self) -> JobView:
        """See `Jobs.cancel`."""
        self.view = self._jobs.cancel(self.id)
        return self.view

    def pause(self) -> JobView:
        """See `Jobs.pause`."""
        self.view = self._jobs.pause(self.id)
        return self.view

    def resume(self) -> JobView:
        """See `Jobs.resume`."""
        self.view = self._jobs.resume(self.id)
        return self.view

    def deploy(self, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve the adapter. The result's `model` is its name in calls of `<server>/v1`."""
        return self._jobs.deploy(self.id, strategy=strategy)

    def download_adapter(self, target: Path | str, *, strategy: Strategy | str | None = None) -> Path:
        """Save the adapter as tar.gz (PEFT layout)."""
        return self._jobs.adapter(self.id, target, strategy=strategy)

    def report(self) -> ReportDocument:
        """The finished report."""
        return self._jobs.report(self.id)

    def download_report(self, target: Path | str, *, form: str = "html") -> Path:
        """Save the report, as `html` or `json`."""
        if form == "html":
            return self._jobs.report_html(self.id, target)
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._jobs.report_json(self.id))
        return path
