# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/jobs: submit, show, control and follow jobs, and fetch their results."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.comparison import JobComparison
from craft.contracts.public.jobs import (
    ArtifactList,
    AttemptList,
    EventList,
    EventView,
    JobList,
    JobView,
    LogLine,
    LogList,
    StageList,
    ValidationView,
)
from craft.contracts.public.publishing import HubTarget, MlflowTarget, PublicationList, PublicationView
from craft.contracts.public.serving import AdapterDeployment
from craft.contracts.spec.jobs import JobSpec, JobStatus
from craft.core.strategies import Strategy
from craft_client.encoding import body_of, operation, parsed, query, route
from craft_client.sync import following
from craft_client.sync.handles import JobHandle
from craft_client.sync.paging import all_items
from craft_client.sync.transport import Transport


class Jobs:
    """Calls on jobs. `create`, `open` and `retry` return a handle with the same calls on one job."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("createJob")
    def create(self, spec: JobSpec | Mapping[str, Any]) -> JobHandle:
        """Submit a job. Raises ApiError with the server's problem document if it is refused."""
        return JobHandle(self, self._transport.call(JobView, "POST", "/craft/jobs", json=body_of(spec)))

    @operation("validateJob")
    def validate(self, spec: JobSpec | Mapping[str, Any]) -> ValidationView:
        """Check a specification: the stages that `create` would make of it, and an estimate."""
        return self._transport.call(ValidationView, "POST", "/craft/jobs/validate", json=body_of(spec))

    @operation("getJob")
    def get(self, job_id: str, *, wait: float | None = None) -> JobView:
        """A job. With `wait` the server answers when the job has ended, or after so many seconds, at most 60."""
        return self._transport.call(JobView, "GET", route("/craft/jobs/{}", job_id), params=query(wait=wait))

    def open(self, job_id: str) -> JobHandle:
        """A handle on a job that was submitted before."""
        return JobHandle(self, self.get(job_id))

    @operation("listJobs")
    def list(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: JobStatus | str | Iterable[JobStatus | str] | None = None,
        created_after: datetime | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> JobList:
        """A page of jobs, newest first. `after` is the `last_id` of the page before. All `labels` must match."""
        params = query(
            limit=limit,
            after=after,
            status=[status] if isinstance(status, str) else None if status is None else [*status],
            created_after=None if created_after is None else created_after.isoformat(),
        )
        params |= {f"label.{name}": value for name, value in (labels or {}).items()}
        return self._transport.call(JobList, "GET", "/craft/jobs", params=params)

    def iterate(
        self,
        *,
        status: JobStatus | str | Iterable[JobStatus | str] | None = None,
        created_after: datetime | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[JobView]:
        """All jobs, newest first, fetched page by page as needed."""
        statuses = [status] if isinstance(status, str) else None if status is None else [*status]

        def fetch(after: str | None) -> JobList:
            return self.list(limit=100, after=after, status=statuses, created_after=created_after, labels=labels)

        for job in all_items(fetch, lambda job: job.id):
            yield job

    @operation("cancelJob")
    def cancel(self, job_id: str) -> JobView:
        """Cancel a job; it is `cancelled` some seconds later."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/cancel", job_id))

    @operation("pauseJob")
    def pause(self, job_id: str) -> JobView:
        """Pause a job, which frees its workers some seconds later. Raises ApiError (409) for an ended job."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/pause", job_id))

    @operation("resumeJob")
    def resume(self, job_id: str) -> JobView:
        """Continue a paused job. Raises ApiError (409) for an ended job."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/resume", job_id))

    @operation("retryJob")
    def retry(self, job_id: str, *, from_stage: str | None = None) -> JobHandle:
        """Repeat an ended job as a new one. `from_stage` and the stages that depend on it are computed again."""
        path = route("/craft/jobs/{}/retry", job_id)
        view = self._transport.call(JobView, "POST", path, json={"from_stage": from_stage})
        return JobHandle(self, view)

    @operation("pinJob")
    def pin(self, job_id: str) -> JobView:
        """Keep all results of the job without a time limit."""
        return self._transport.call(JobView, "PUT", route("/craft/jobs/{}/pin", job_id))

    @operation("unpinJob")
    def unpin(self, job_id: str) -> JobView:
        """Let the job's results expire."""
        return self._transport.call(JobView, "DELETE", route("/craft/jobs/{}/pin", job_id))

    @operation("listAttempts")
    def attempts(self, job_id: str) -> AttemptList:
        """All claims of the job's stages by workers, with their outcomes."""
        return self._transport.call(AttemptList, "GET", route("/craft/jobs/{}/attempts", job_id))

    @operation("listStages")
    def stages(self, job_id: str) -> StageList:
        """The job's stages."""
        return self._transport.call(StageList, "GET", route("/craft/jobs/{}/stages", job_id))

    @operation("listArtifacts")
    def artifacts(self, job_id: str) -> ArtifactList:
        """The artifacts that the job's stages have written so far."""
        return self._transport.call(ArtifactList, "GET", route("/craft/jobs/{}/artifacts", job_id))

    @operation("deployAdapter")
    def deploy(self, job_id: str, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve a finished adapter. Its `model` is its name for OpenAI's client at `<server>/v1`. Idempotent."""
        path = route("/craft/jobs/{}/deploy", job_id)
        return self._transport.call(AdapterDeployment, "POST", path, json={"strategy": strategy})

    @operation("withdrawAdapter")
    def undeploy(self, job_id: str, *, strategy: Strategy | str | None = None) -> None:
        """Stop serving an adapter."""
        self._transport.send("DELETE", route("/craft/jobs/{}/deploy", job_id), params=query(strategy=strategy))

    @operation("listLogs")
    def logs(
        self, job_id: str, *, stage: str | None = None, after: int | None = None, limit: int | None = None
    ) -> LogList:
        """A page of log lines."""
        params = query(stage=stage, after=after, limit=limit)
        return self._transport.call(LogList, "GET", route("/craft/jobs/{}/logs", job_id), params=params)

    def iterate_logs(self, job_id: str, *, stage: str | None = None) -> Iterator[LogLine]:
        """All log lines so far, in order."""

        def fetch(after: str | None) -> LogList:
            return self.logs(job_id, stage=stage, after=int(after or 0), limit=500)

        for line in all_items(fetch, lambda line: str(line.id)):
            yield line

    @operation("listEvents")
    def events(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> EventList:
        """A page of events; see also `stream`."""
        params = query(after=after, limit=limit)
        return self._transport.call(EventList, "GET", route("/craft/jobs/{}/events", job_id), params=params)

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[EventView]:
        """The events as they happen, up to the job's end, each exactly once, also across lost connections.

        Raises ServerUnreachable if the server does not come back.
        """
        for event in following.events(self._transport, job_id, after=after):
            yield event

    @operation("getReportJson")
    def report_json(self, job_id: str) -> bytes:
        """The finished report's JSON text."""
        return (self._transport.send("GET", route("/craft/jobs/{}/report.json", job_id))).content

    def report(self, job_id: str) -> ReportDocument:
        """The finished report. Raises ApiError (409) before the job has one."""
        return parsed(ReportDocument, self.report_json(job_id))

    @operation("getReportHtml")
    def report_html(self, job_id: str, target: Path | str) -> Path:
        """Save the finished report as one HTML page that needs no network."""
        return self._transport.download(route("/craft/jobs/{}/report.html", job_id), Path(target), params={})

    @operation("downloadAdapter")
    def adapter(self, job_id: str, target: Path | str, *, strategy: Strategy | str | None = None) -> Path:
        """Save a finished adapter (tar.gz, PEFT layout). The file is whole or absent."""
        path, params = route("/craft/jobs/{}/adapter", job_id), query(strategy=strategy)
        return self._transport.download(path, Path(target), params=params)

    @operation("compareJobs")
    def compare(self, job_ids: Sequence[str]) -> JobComparison:
        """Compare two to ten jobs. Raises ApiError (404) for a job of another team."""
        params = query(ids=",".join(job_ids))
        return self._transport.call(JobComparison, "GET", "/craft/jobs/compare", params=params)

    @operation("publishAdapter")
    def publish(
        self, job_id: str, to: MlflowTarget | HubTarget | Mapping[str, Any], *, strategy: Strategy | str | None = None
    ) -> PublicationView:
        """Publish a finished adapter. Idempotent; after a failure, a new call tries again."""
        path, body = route("/craft/jobs/{}/publish", job_id), {"target": body_of(to), "strategy": strategy}
        return self._transport.call(PublicationView, "POST", path, json=body)

    @operation("listPublications")
    def publications(self, job_id: str) -> PublicationList:
        """The publications of the job's adapters: done, waiting or failed."""
        return self._transport.call(PublicationList, "GET", route("/craft/jobs/{}/publications", job_id))

    def wait_until_ended(self, job_id: str, *, until: float) -> JobView:
        """The job when it has ended, or at the time `until` of `time.monotonic`. Waits for a server that restarts.

        Raises ServerUnreachable if the server does not come back.
        """
        return following.wait_until_ended(self._transport, job_id, until=until)
