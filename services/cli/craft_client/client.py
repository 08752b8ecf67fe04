"""The client: resources as attributes, answers as the contracts' own models."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from craft.contracts.comparing import JobComparison
from craft.contracts.gc import GcView
from craft.contracts.job import JobSpec, RetryRequest
from craft.contracts.publishing import PublicationList, PublicationView, PublishRequest
from craft.contracts.serving import AdapterDeployment, DeployRequest
from craft.contracts.views import (
    AttemptList,
    DatasetList,
    DatasetView,
    EventView,
    JobList,
    JobView,
    LogList,
    StageList,
    ValidationView,
)
from craft.core.questions import Task
from craft.core.selection import Strategy
from craft_client.errors import ApiError, JobFailed, ServerUnreachable
from craft_client.sse import read_events
from craft_client.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8080"
_LONG_POLL_SECONDS = 30
_MOST_DROPS = 60


class JobHandle:
    """A job on the server. `view` is what was seen last; `refresh` looks again."""

    def __init__(self, jobs: "Jobs", view: JobView) -> None:
        self._jobs = jobs
        self.view = view

    @property
    def id(self) -> str:
        """The job's id."""
        return self.view.id

    def refresh(self) -> JobView:
        """Look again."""
        self.view = self._jobs.get(self.id)
        return self.view

    def wait(self) -> JobView:
        """Until the job ends. Raises JobFailed where it did not succeed."""
        while not self.view.status.terminal:
            self.view = self._jobs.get(self.id, wait_seconds=_LONG_POLL_SECONDS)
        if self.view.status != "succeeded":
            raise JobFailed(self.view)
        return self.view

    def stream(self, *, after: int = 0) -> Iterator[EventView]:
        """Every event from the first after `after` to the terminal one, over lost connections too."""
        return self._jobs.stream(self.id, after=after)

    def deploy(self, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve the adapter; its `model` is the name to use in calls of `<server>/v1`."""
        return self._jobs.deploy(self.id, strategy=strategy)

    def download_adapter(self, target: Path, *, strategy: str | None = None) -> Path:
        """The adapter's tar.gz (PEFT layout)."""
        return self._jobs.download(self.id, "adapter", target, params={"strategy": strategy} if strategy else {})

    def download_report(self, target: Path, *, form: str = "html") -> Path:
        """The report, `html` or `json`."""
        return self._jobs.download(self.id, f"report.{form}", target)


class Jobs:
    """/craft/jobs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: JobSpec | dict[str, Any]) -> JobHandle:
        """Submit a job. Raises ApiError with the server's problem where it is refused."""
        return JobHandle(self, _view(self._transport.post("/craft/jobs", json=_body(spec))))

    def validate(self, spec: JobSpec | dict[str, Any]) -> ValidationView:
        """What `create` would do with the same body, and an estimate."""
        response = self._transport.post("/craft/jobs/validate", json=_body(spec))
        return ValidationView.model_validate_json(response.content)

    def get(self, job_id: str, *, wait_seconds: int | None = None) -> JobView:
        """A job; with `wait_seconds` the server answers when the job changes or the time is up."""
        params = {} if wait_seconds is None else {"wait": wait_seconds}
        return _view(self._transport.get(f"/craft/jobs/{job_id}", params=params))

    def open(self, job_id: str) -> JobHandle:
        """A handle of a job that was submitted before."""
        return JobHandle(self, self.get(job_id))

    def list(self, **filters: Any) -> JobList:
        """Jobs, newest first; filters as query parameters (`limit`, `after`, `status`, …)."""
        return JobList.model_validate_json(self._transport.get("/craft/jobs", params=filters).content)

    def cancel(self, job_id: str) -> JobView:
        """Ask for the end of a job; it is `cancelled` some seconds later."""
        return _view(self._transport.post(f"/craft/jobs/{job_id}/cancel"))

    def pause(self, job_id: str) -> JobView:
        """Free the workers; it is `paused` some seconds later. Raises ApiError (409) where it has ended."""
        return _view(self._transport.post(f"/craft/jobs/{job_id}/pause"))

    def resume(self, job_id: str) -> JobView:
        """Go on with a paused job. Raises ApiError (409) where it has ended."""
        return _view(self._transport.post(f"/craft/jobs/{job_id}/resume"))

    def retry(self, job_id: str, *, from_stage: str | None = None) -> JobHandle:
        """A new job that does an ended one again; `from_stage` and what depends on it are computed anew."""
        body = RetryRequest(from_stage=from_stage).model_dump(mode="json")
        return JobHandle(self, _view(self._transport.post(f"/craft/jobs/{job_id}/retry", json=body)))

    def pin(self, job_id: str) -> JobView:
        """Keep all that the job made without limit of time."""
        return _view(self._transport.put(f"/craft/jobs/{job_id}/pin"))

    def unpin(self, job_id: str) -> JobView:
        """Let what the job made expire."""
        return _view(self._transport.delete(f"/craft/jobs/{job_id}/pin"))

    def attempts(self, job_id: str) -> AttemptList:
        """Every claim of the job's stages by a worker, and how it ended."""
        return AttemptList.model_validate_json(self._transport.get(f"/craft/jobs/{job_id}/attempts").content)

    def deploy(self, job_id: str, *, strategy: Strategy | str | None = None) -> AdapterDeployment:
        """Serve a finished adapter: its `model` is a name for OpenAI's client at `<server>/v1`. Twice is as once."""
        body = DeployRequest(strategy=None if strategy is None else Strategy(strategy))
        response = self._transport.post(f"/craft/jobs/{job_id}/deploy", json=body.model_dump(mode="json"))
        return AdapterDeployment.model_validate_json(response.content)

    def compare(self, job_ids: Sequence[str]) -> JobComparison:
        """Two to ten jobs side by side. Raises ApiError (404) where one is not the team's."""
        response = self._transport.get("/craft/jobs/compare", params={"ids": ",".join(job_ids)})
        return JobComparison.model_validate_json(response.content)

    def publish(self, job_id: str, request: PublishRequest) -> PublicationView:
        """Have a finished adapter published; twice is as once, and after a failure it is tried again."""
        body = request.model_dump(mode="json", exclude_none=True)
        response = self._transport.post(f"/craft/jobs/{job_id}/publish", json=body)
        return PublicationView.model_validate_json(response.content)

    def publications(self, job_id: str) -> PublicationList:
        """Where the job's adapters were published, or are to be."""
        return PublicationList.model_validate_json(self._transport.get(f"/craft/jobs/{job_id}/publications").content)

    def stages(self, job_id: str) -> StageList:
        """The job's stages."""
        return StageList.model_validate_json(self._transport.get(f"/craft/jobs/{job_id}/stages").content)

    def logs(self, job_id: str, *, stage: str | None = None, after: int = 0) -> LogList:
        """A page of log lines."""
        params: dict[str, Any] = {"after": after} | ({"stage": stage} if stage else {})
        return LogList.model_validate_json(self._transport.get(f"/craft/jobs/{job_id}/logs", params=params).content)

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[EventView]:
        """Events as they happen. A lost connection is taken up after the last event seen, none lost, none twice."""
        seen, drops = after, 0
        while True:
            try:
                with self._transport.stream(
                    f"/craft/jobs/{job_id}/events",
                    params={"after": seen},
                    headers={"Accept": "text/event-stream", "Last-Event-ID": str(seen)},
                ) as response:
                    for event in read_events(response.iter_lines()):
                        seen, drops = event.seq, 0
                        yield event
            except httpx.TransportError as error:
                drops += 1
                if drops > _MOST_DROPS:
                    raise ServerUnreachable(f"The event stream of {job_id} broke {drops} times.") from error
            # The server closes after the terminal event, and also when it shuts down.
            if self.get(job_id).status.terminal:
                yield from self._rest(job_id, seen)
                return

    def report_json(self, job_id: str) -> bytes:
        """The finished report's JSON text."""
        return self._transport.get(f"/craft/jobs/{job_id}/report.json").content

    def download(self, job_id: str, what: str, target: Path, *, params: dict[str, str] | None = None) -> Path:
        """Save `adapter`, `report.html` or `report.json`."""
        self._transport.download(f"/craft/jobs/{job_id}/{what}", target, params=params or {})
        return target

    def _rest(self, job_id: str, seen: int) -> Iterator[EventView]:
        headers = {"Accept": "text/event-stream"}
        with self._transport.stream(
            f"/craft/jobs/{job_id}/events", params={"after": seen}, headers=headers
        ) as response:
            yield from read_events(response.iter_lines())


class Datasets:
    """/craft/datasets."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, path: Path, *, task: Task, name: str | None = None) -> DatasetView:
        """Upload a JSONL, JSON, CSV or Parquet file. Raises ApiError with row errors where rows are wrong."""
        fields = {"task": task.value, "name": name or path.stem}
        with path.open("rb") as file:
            response = self._transport.upload("/craft/datasets", file=file, name=path.name, fields=fields)
        return DatasetView.model_validate_json(response.content)

    def create(self, rows: list[dict[str, Any]], *, task: Task, name: str | None = None) -> DatasetView:
        """Store rows."""
        body = {"rows": rows, "task": task.value, "name": name}
        return DatasetView.model_validate_json(self._transport.post("/craft/datasets", json=body).content)

    def list(self, **filters: Any) -> DatasetList:
        """Datasets, newest first."""
        return DatasetList.model_validate_json(self._transport.get("/craft/datasets", params=filters).content)

    def get(self, dataset_id: str) -> DatasetView:
        """One dataset."""
        return DatasetView.model_validate_json(self._transport.get(f"/craft/datasets/{dataset_id}").content)


class Client:
    """A connection to one server; use it as a context manager, or call `close`."""

    def __init__(self, base_url: str = DEFAULT_URL, *, transport: Transport | None = None) -> None:
        self._transport = transport or Transport(base_url)
        self.jobs = Jobs(self._transport)
        self.datasets = Datasets(self._transport)

    def gc(self, *, dry_run: bool = True) -> GcView:
        """What has expired in the artifact store; with `dry_run=False` it is gone, a bounded number in one call."""
        response = self._transport.post(f"/craft/gc?dry_run={str(dry_run).lower()}")
        return GcView.model_validate_json(response.content)

    def ready(self) -> bool:
        """Whether the gateway and what it needs answer."""
        try:
            return self._transport.get("/readyz").is_success
        except (ApiError, ServerUnreachable):
            return False

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _body(spec: JobSpec | dict[str, Any]) -> object:
    return spec.model_dump(mode="json", exclude_none=True) if isinstance(spec, JobSpec) else spec


def _view(response: httpx.Response) -> JobView:
    return JobView.model_validate_json(response.content)
