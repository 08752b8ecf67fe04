# Made from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/jobs: submit, look, steer, follow, fetch."""

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
from craft_client.answers import body_of, operation, parsed, query, route
from craft_client.sync import following
from craft_client.sync.handles import JobHandle
from craft_client.sync.paging import every
from craft_client.sync.transport import Transport


class Jobs:
    """Calls on jobs; `create`, `open` and `retry` give a handle with the same calls on one."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @operation("createJob")
    def create(self, spec: JobSpec | Mapping[str, Any]) -> JobHandle:
        """Submit a job. Raises ApiError with the server's problem where it is refused."""
        return JobHandle(self, self._transport.call(JobView, "POST", "/craft/jobs", json=body_of(spec)))

    @operation("validateJob")
    def validate(self, spec: JobSpec | Mapping[str, Any]) -> ValidationView:
        """What `create` would do with the same body, and an estimate."""
        return self._transport.call(ValidationView, "POST", "/craft/jobs/validate", json=body_of(spec))

    @operation("getJob")
    def get(self, job_id: str, *, wait: float | None = None) -> JobView:
        """A job; with `wait` the server answers when it has ended or so many seconds are over, 60 at most."""
        return self._transport.call(JobView, "GET", route("/craft/jobs/{}", job_id), params=query(wait=wait))

    def open(self, job_id: str) -> JobHandle:
        """A handle of a job that was submitted before."""
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
        """A page of jobs, newest first; `after` is the `last_id` of the page before. All `labels` must hold."""
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
        """All jobs, newest first, page by page as they are asked for."""
        statuses = [status] if isinstance(status, str) else None if status is None else [*status]

        def fetch(after: str | None) -> JobList:
            return self.list(limit=100, after=after, status=statuses, created_after=created_after, labels=labels)

        for job in every(fetch, lambda job: job.id):
            yield job

    @operation("cancelJob")
    def cancel(self, job_id: str) -> JobView:
        """Ask for the end of a job; it is `cancelled` some seconds later."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/cancel", job_id))

    @operation("pauseJob")
    def pause(self, job_id: str) -> JobView:
        """Free the workers; it is `paused` some seconds later. Raises ApiError (409) where it has ended."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/pause", job_id))

    @operation("resumeJob")
    def resume(self, job_id: str) -> JobView:
        """Go on with a paused job. Raises ApiError (409) where it has ended."""
        return self._transport.call(JobView, "POST", route("/craft/jobs/{}/resume", job_id))

    @operation("retryJob")
    def retry(self, job_id: str, *, from_stage: str | None = None) -> JobHandle:
        """A new job that does an ended one again; `from_stage` and what depends on it are computed anew."""
        path = route("/craft/jobs/{}/retry", job_id)
        view = self._transport.call(JobView, "POST", path, json={"from_stage": from_stage})
        return JobHandle(self, view)

    @operation("pinJob")
    def pin(self, job_id: str) -> JobView:
        """Keep all that the job made without limit of time."""
        return self._transport.call(JobView, "PUT", route("/craft/jobs/{}/pin", job_id))

    @operation("unpinJob")
    def unpin(self, job_id: str) -> JobView:
        """Let what the job made expire."""
        return self._transport.call(JobView, "DELETE", route("/craft/jobs/{}/pin", job_id))

    @operation("listAttempts")
    def attempts(self, job_id: str) -> AttemptList:
        """Every claim of the job's stages by a worker, and how it ended."""
        return self._transport.call(AttemptList, "GET", route("/craft/jobs/{}/attempts", job_id))

    @operation("listStages")
    def stages(self, job_id: str) -> StageList:
        """The job's stages."""
        return self._transport.call(StageList, "GET", route("/craft/jobs/{}/stages", job_id))

    @operation("listArtifacts")
    def artifacts(self, job_id: str) -> ArtifactList:
        """What the job's stages have written so far."""
        return self._transport.call(ArtifactList, "GET", route("/craft/jobs/{}/artifacts", job_id))

    @operation("deployAdapter")
    def deploy(self, job_id: str, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve a finished adapter: its `model` is a name for OpenAI's client at `<server>/v1`. Twice is as once."""
        path = route("/craft/jobs/{}/deploy", job_id)
        return self._transport.call(AdapterDeployment, "POST", path, json={"strategy": strategy})

    @operation("withdrawAdapter")
    def undeploy(self, job_id: str, *, strategy: Strategy | str | None = None) -> None:
        """Serve an adapter no longer."""
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

        for line in every(fetch, lambda line: str(line.id)):
            yield line

    @operation("listEvents")
    def events(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> EventList:
        """A page of events; see also `stream`."""
        params = query(after=after, limit=limit)
        return self._transport.call(EventList, "GET", route("/craft/jobs/{}/events", job_id), params=params)

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[EventView]:
        """Events as they happen, up to the job's end, over lost connections too; none lost, none twice.

        Raises ServerUnreachable where the server stays away.
        """
        for event in following.events(self._transport, job_id, after=after):
            yield event

    @operation("getReportJson")
    def report_json(self, job_id: str) -> bytes:
        """The finished report's JSON text."""
        return (self._transport.send("GET", route("/craft/jobs/{}/report.json", job_id))).content

    def report(self, job_id: str) -> ReportDocument:
        """The finished report. Raises ApiError (409) while it is not."""
        return parsed(ReportDocument, self.report_json(job_id))

    @operation("getReportHtml")
    def report_html(self, job_id: str, target: Path | str) -> Path:
        """Save the finished report as one page of HTML that needs no network."""
        return self._transport.download(route("/craft/jobs/{}/report.html", job_id), Path(target), params={})

    @operation("downloadAdapter")
    def adapter(self, job_id: str, target: Path | str, *, strategy: Strategy | str | None = None) -> Path:
        """Save a finished adapter (tar.gz, PEFT layout), whole or not at all."""
        path, params = route("/craft/jobs/{}/adapter", job_id), query(strategy=strategy)
        return self._transport.download(path, Path(target), params=params)

    @operation("compareJobs")
    def compare(self, job_ids: Sequence[str]) -> JobComparison:
        """Two to ten jobs side by side. Raises ApiError (404) where one is not the team's."""
        params = query(ids=",".join(job_ids))
        return self._transport.call(JobComparison, "GET", "/craft/jobs/compare", params=params)

    @operation("publishAdapter")
    def publish(
        self, job_id: str, to: MlflowTarget | HubTarget | Mapping[str, Any], *, strategy: Strategy | str | None = None
    ) -> PublicationView:
        """Have a finished adapter published; twice is as once, and after a failure it is tried again."""
        path, body = route("/craft/jobs/{}/publish", job_id), {"target": body_of(to), "strategy": strategy}
        return self._transport.call(PublicationView, "POST", path, json=body)

    @operation("listPublications")
    def publications(self, job_id: str) -> PublicationList:
        """Where the job's adapters were published or are to be, or why they are not."""
        return self._transport.call(PublicationList, "GET", route("/craft/jobs/{}/publications", job_id))

    def settled(self, job_id: str, *, until: float) -> JobView:
        """The job once it has ended, or as it is at `until` of `time.monotonic`; a server that restarts is waited for.

        Raises ServerUnreachable where it stays away.
        """
        return following.settled(self._transport, job_id, until=until)
