"""What the public API answers: jobs, stages, events, datasets, artifacts and lists of them; times are RFC 3339."""

from typing import Literal

from pydantic import Field, JsonValue

from craft.contracts.base import Contract, ExpiresAt, Moment
from craft.contracts.documents.estimate import Check, Estimate, EstimateOutcome
from craft.contracts.events import EventType, StageStatus
from craft.contracts.problems import JobError, StageError
from craft.contracts.spec.jobs import JobSpec, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Cost, ManifestFile
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import RetentionClass, Service, StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.strategies import Strategy


class Progress(Contract):
    """How far a job or a stage is. A job's `stage`, `done` and `total` are those of the stage that runs now."""

    percent: float = Field(ge=0.0, le=100.0, examples=[61.5])
    stage: str | None = Field(None, examples=["tune:craft"])
    done: int = Field(0, ge=0, examples=[410])
    total: int = Field(0, ge=0, examples=[660])
    metrics: dict[str, float] = Field(default_factory=dict, examples=[{"loss": 0.41}])


class QueuePlace(Contract):
    """Where a job stands: how many stages its queue serves before its own. Position 0: none, or the job has begun.

    While it waits, `waited_seconds` grows in steps of ten, so that a representation stays the same for a while.
    """

    position: int = Field(ge=0)
    waited_seconds: float = Field(ge=0.0)


class StageView(Contract):
    """One stage of a job. `reused`: another job computed the same before, so it cost nothing now."""

    object: Literal["craft.stage"] = "craft.stage"
    name: str = Field(examples=["probe:initial"])
    kind: StageKind
    service: Service
    status: StageStatus
    attempt: int = Field(ge=0)
    reused: bool
    seconds: float | None = Field(description="How long it ran; while it runs, up to its last sign of life.")
    depends_on: list[str]
    progress: Progress | None = None
    error: StageError | None = Field(None, description="Of the last failed attempt, kept while a new one runs.")
    artifact: ArtifactRef | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None


class StageList(Contract):
    """All stages of a job in their planned order."""

    object: Literal["list"] = "list"
    data: list[StageView]
    has_more: bool = False
    last_id: str | None = None


class ResolvedSpec(JobSpec):
    """The specification with every default filled in, and what its names stood for when the job was accepted.

    Inline rows have become a dataset with an id. Sizes that depend on what the model knows stay null:
    the report tells what they became.
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
    """Where the finished report is."""

    object: Literal["craft.report"] = "craft.report"
    artifact: ArtifactRef
    json_url: str
    html_url: str
    expires_at: ExpiresAt = None


class JobLinks(Contract):
    """Paths below the API's host."""

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
    """A job as the API shows it. A terminal status never changes again."""

    object: Literal["craft.job"] = "craft.job"
    id: str = Field(examples=["cjob_01jgywz3x4v5q6r7s8t9vawbxc"])
    name: str | None
    status: JobStatus
    status_reason: str | None = Field(examples=["training, epoch 2 of 3"])
    progress: Progress
    queue: QueuePlace
    stages: list[StageView]
    resolved: ResolvedSpec
    estimate: Estimate = Field(description="As it was made when the job was accepted.")
    estimate_outcome: EstimateOutcome | None = Field(None, description="Once it has ended: the estimate against it.")
    error: JobError | None
    adapters: list[AdapterView]
    report: ReportView | None
    team: str = Field(examples=["default"])
    priority: int
    retry_of: str | None = Field(description="The ended job that this one does again.")
    pinned: bool = Field(description="What it made is kept without limit of time.")
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
    """A stage that a job would have."""

    name: str
    kind: StageKind
    service: Service
    depends_on: list[str]
    reused: bool = Field(description="Whether its result is there already.")


class ValidationView(Contract):
    """What `POST /craft/jobs` would do with the same body. Inline rows are stored as the dataset it names."""

    object: Literal["craft.validation"] = "craft.validation"
    valid: Literal[True] = True
    resolved: ResolvedSpec
    stages: list[PlannedStageView]
    estimate: Estimate
    checks: list[Check] = Field(
        default_factory=list, description="What was looked at; what fails is a problem instead."
    )


class EventView(Contract):
    """One event of a job. `seq` counts from 1 without gaps within the job; it is the id of the event stream."""

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
    attempt: int = Field(description="Rises when an attempt failed or was lost; claims of a released stage share one.")
    fence: int = Field(description="Rises with every claim of the stage.")
    outcome: AttemptOutcome
    owner: str = Field(description="The worker's process.")
    device: str | None
    error: StageError | None
    waited_seconds: float = Field(description="How long the stage had been ready.")
    seconds: float | None = Field(description="Null while it runs.")
    started_at: Moment
    ended_at: Moment | None


class AttemptList(Contract):
    """Every claim of a job's stages, in the order in which they began."""

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
    """What a stage of the job wrote, or found there."""

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
    cost: Cost = Field(description="What computing it took; a reused artifact cost that only once.")
    retention_class: RetentionClass
    expires_at: ExpiresAt = None


class ArtifactList(Contract):
    """All artifacts of a job so far, in the order of its stages."""

    object: Literal["list"] = "list"
    data: list[ArtifactView]
    has_more: bool = False
    last_id: str | None = None


class QueueEntry(Contract):
    """A job that waits or runs, and why."""

    job_id: str
    name: str | None
    status: JobStatus
    team: str
    priority: int
    position: int = Field(ge=0)
    waited_seconds: float = Field(ge=0.0)
    reason: str | None = Field(examples=["waits for a free inference worker"])
    estimated_start_at: Moment | None = Field(
        None, description="From what stages took here lately; absent where too little is known, or a quota holds it."
    )


class DeviceView(Contract):
    """A processor that one stage holds alone until it ends or its lease runs out."""

    object: Literal["craft.device"] = "craft.device"
    name: str = Field(examples=["gpu0"])
    job_id: str | None = Field(description="Null where it is another team's.")
    stage: str = Field(examples=["tune:craft"])
    service: Service
    owner: str | None = Field(description="The worker; null where its job is another team's.")
    since: Moment | None
    lease_expires_at: Moment | None


class QueueView(Contract):
    """Unfinished jobs in the order in which they are served, and who holds the processors that workers share."""

    object: Literal["craft.queue"] = "craft.queue"
    running: int
    waiting: int
    data: list[QueueEntry]
    devices: list[DeviceView] = Field(default_factory=list, description="Held now; one that is free is not listed.")
