"""Jobs, stages, events, logs, artifacts and the queue in the public API. Times are RFC 3339."""

from typing import Literal

from pydantic import Field, JsonValue

from craft.contracts.base import Contract, ExpiresAt, Moment
from craft.contracts.documents.estimate import Check, Estimate, EstimateOutcome
from craft.contracts.events import EventType, StageStatus
from craft.contracts.findings import Finding
from craft.contracts.problems import JobError, StageError
from craft.contracts.spec.jobs import JobSpec, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Cost, ManifestFile
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import RetentionClass, Service, StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.strategies import Strategy


class Progress(Contract):
    """The progress of a job or a stage. A job's `stage`, `done` and `total` are those of the running stage."""

    percent: float = Field(ge=0.0, le=100.0, examples=[61.5])
    stage: str | None = Field(None, examples=["tune:craft"])
    done: int = Field(0, ge=0, examples=[410])
    total: int = Field(0, ge=0, examples=[660])
    metrics: dict[str, float] = Field(default_factory=dict, examples=[{"loss": 0.41}])


class QueuePlace(Contract):
    """A job's place in its queue. `position` counts the stages before its own; 0: none, or the job has started.

    While the job waits, `waited_seconds` grows in steps of ten, so that its ETag changes less often.
    """

    position: int = Field(ge=0)
    waited_seconds: float = Field(ge=0.0)


class StageView(Contract):
    """One stage of a job. `reused`: another job has computed the same result, so the stage costs nothing."""

    object: Literal["craft.stage"] = "craft.stage"
    name: str = Field(examples=["probe:initial"])
    kind: StageKind
    service: Service
    status: StageStatus
    attempt: int = Field(ge=0)
    reused: bool
    seconds: float | None = Field(description="Its run time; while it runs, up to the last heartbeat.")
    depends_on: list[str]
    progress: Progress | None = None
    error: StageError | None = Field(
        None, description="Error of the last failed attempt; it stays while a new attempt runs."
    )
    artifact: ArtifactRef | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None


class StageList(Contract):
    """All stages of a job, in planned order."""

    object: Literal["list"] = "list"
    data: list[StageView]
    has_more: bool = False
    last_id: str | None = None


class ResolvedSpec(JobSpec):
    """The specification with all defaults, and with its names resolved when the job was accepted.

    Inline rows have become a dataset with an id. Sizes that depend on the model's knowledge are null; the report has
    their values.
    """

    model: ModelRef
    engine: EngineRef
    embedder: str
    questions: int = Field(description="Rows of the dataset.")


class AdapterView(Contract):
    """A finished adapter in PEFT layout."""

    object: Literal["craft.adapter"] = "craft.adapter"
    strategy: Strategy
    base_model: str
    artifact: ArtifactRef
    bytes: int = Field(description="Of the archive.")
    sha256: str = Field(description="Of the archive.")
    download: str = Field(examples=["/craft/jobs/cjob_01jgywz3x4v5q6r7s8t9vawbxc/adapter?strategy=craft"])
    expires_at: ExpiresAt = None


class ReportView(Contract):
    """The finished report's addresses."""

    object: Literal["craft.report"] = "craft.report"
    artifact: ArtifactRef
    json_url: str
    html_url: str
    expires_at: ExpiresAt = None


class JobLinks(Contract):
    """Paths on the API's host."""

    self: str
    events: str
    stages: str
    logs: str
    artifacts: str
    attempts: str
    report: str
    adapter: str
    deploy: str
    cancel: str
    pause: str
    resume: str
    retry: str
    pin: str


class JobView(Contract):
    """A job. A terminal status never changes."""

    object: Literal["craft.job"] = "craft.job"
    id: str = Field(examples=["cjob_01jgywz3x4v5q6r7s8t9vawbxc"])
    name: str | None
    status: JobStatus
    status_reason: str | None = Field(examples=["training, epoch 2 of 3"])
    progress: Progress
    queue: QueuePlace
    stages: list[StageView]
    resolved: ResolvedSpec
    estimate: Estimate = Field(description="The estimate when the job was accepted.")
    estimate_outcome: EstimateOutcome | None = Field(
        None, description="After its end: the estimate compared with reality."
    )
    error: JobError | None
    findings: list[Finding] = Field(
        default_factory=list, description="Noticed when the job was accepted. The report adds those of its stages."
    )
    adapters: list[AdapterView]
    report: ReportView | None
    team: str = Field(examples=["default"])
    priority: int
    retry_of: str | None = Field(description="The finished job that this job retries.")
    pinned: bool = Field(description="Whether its artifacts are kept without time limit.")
    labels: dict[str, str]
    created_at: Moment
    started_at: Moment | None
    estimated_finish_at: Moment | None
    finished_at: Moment | None
    links: JobLinks


class JobList(Contract):
    """Jobs, newest first; the next page is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[JobView]
    has_more: bool
    last_id: str | None


class PlannedStageView(Contract):
    """A stage of a validated job."""

    name: str
    kind: StageKind
    service: Service
    depends_on: list[str]
    reused: bool = Field(description="Whether its result exists already.")


class ValidationView(Contract):
    """The effect of `POST /craft/jobs` with the same body. Inline rows are stored as the named dataset."""

    object: Literal["craft.validation"] = "craft.validation"
    valid: Literal[True] = True
    resolved: ResolvedSpec
    stages: list[PlannedStageView]
    estimate: Estimate
    checks: list[Check] = Field(default_factory=list, description="The checks; a failed one is a problem instead.")
    findings: list[Finding] = Field(
        default_factory=list,
        description="What could make a result wrong: warnings, and errors that the job accepts. Others are a problem.",
    )


class EventView(Contract):
    """One event of a job. `seq` counts the job's events from 1 without gaps; it is the id in the event stream."""

    object: Literal["craft.event"] = "craft.event"
    job_id: str
    seq: int = Field(ge=1)
    type: EventType = Field(examples=["stage.succeeded"])
    data: dict[str, JsonValue]
    created_at: Moment


class EventList(Contract):
    """Events in order; the next page is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[EventView]
    has_more: bool
    last_id: int | None


class AttemptView(Contract):
    """One claim of a stage by a worker."""

    object: Literal["craft.attempt"] = "craft.attempt"
    stage: str
    attempt: int = Field(description="Increases after a failed or lost attempt; a released stage keeps its number.")
    fence: int = Field(description="Increases with every claim of the stage.")
    outcome: AttemptOutcome
    owner: str = Field(description="The worker's process.")
    device: str | None
    error: StageError | None
    waited_seconds: float = Field(description="Time for which the stage was ready.")
    seconds: float | None = Field(description="Null while the attempt runs.")
    started_at: Moment
    ended_at: Moment | None


class AttemptList(Contract):
    """All claims of a job's stages, in the order of their starts."""

    object: Literal["list"] = "list"
    data: list[AttemptView]
    has_more: bool = False
    last_id: str | None = None


class LogLine(Contract):
    """A line that a stage's process printed."""

    object: Literal["craft.log_line"] = "craft.log_line"
    id: int
    stage: str
    attempt: int
    line: str
    created_at: Moment


class LogList(Contract):
    """Log lines in order; the next page is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[LogLine]
    has_more: bool
    last_id: int | None


class ArtifactView(Contract):
    """An artifact that a stage of the job wrote or reused."""

    object: Literal["craft.artifact"] = "craft.artifact"
    stage: str
    kind: StageKind
    key: str
    digest: str
    reused: bool
    bytes: int
    files: list[ManifestFile]
    counts: dict[str, int]
    metrics: dict[str, float]
    cost: Cost = Field(description="The cost of computing it; a reused artifact cost this only once.")
    retention_class: RetentionClass
    expires_at: ExpiresAt = None


class ArtifactList(Contract):
    """All artifacts of a job so far, in the order of its stages."""

    object: Literal["list"] = "list"
    data: list[ArtifactView]
    has_more: bool = False
    last_id: str | None = None


class QueueEntry(Contract):
    """A job that waits or runs, with the reason."""

    job_id: str
    name: str | None
    status: JobStatus
    team: str
    priority: int
    position: int = Field(ge=0)
    waited_seconds: float = Field(ge=0.0)
    reason: str | None = Field(
        examples=["probe:initial waits for a free inference worker: gpu0 is busy with tune:craft of 'ablation'"]
    )
    estimated_start_at: Moment | None = Field(
        None, description="From recent durations of stages; absent if too little is known or a quota blocks the job."
    )


class DeviceView(Contract):
    """A device that one stage has locked until it ends or its lease expires."""

    object: Literal["craft.device"] = "craft.device"
    name: str = Field(examples=["gpu0"])
    job_id: str | None = Field(description="Null if the job belongs to another team.")
    stage: str = Field(examples=["tune:craft"])
    service: Service
    owner: str | None = Field(description="The worker; null if the job belongs to another team.")
    since: Moment | None
    lease_expires_at: Moment | None


class QueueView(Contract):
    """Unfinished jobs in queue order, and the owners of shared devices."""

    object: Literal["craft.queue"] = "craft.queue"
    running: int
    waiting: int
    data: list[QueueEntry]
    devices: list[DeviceView] = Field(default_factory=list, description="Locked devices; free ones are not listed.")
