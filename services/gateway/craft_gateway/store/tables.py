"""The gateway's tables: the truth about jobs, stages, artifacts, datasets and events. Private to this service.

Times are UTC and come from the database's clock. A JSON column holds `model_dump(mode="json")` of the named contract.
The file is longer than most so that the whole schema can be read in one place.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

from craft.contracts.events import EventType, StageStatus
from craft.contracts.public.accounts import Role
from craft.contracts.public.publishing import PublicationStatus
from craft.contracts.public.webhooks import DeliveryStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import Service, StageKind
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft_gateway.store.column_types import EnumText, PlainJson, UtcDateTime

_BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite autoincrements only an INTEGER key


def _time(*, nullable: bool = True) -> Column[Any]:
    return Column(UtcDateTime(), nullable=nullable)


def _json(*, nullable: bool = False, given_as: str | None = None) -> Column[Any]:
    """`given_as`: the column holds what a caller gave under this name."""
    return Column(PlainJson(given_as=given_as), nullable=nullable)


class Job(SQLModel, table=True):
    """A job. Its row is locked by every transaction that writes its events or stages, so its events have no gaps."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("idempotency_key", name="uq_job_idempotency_key"),
        Index("ix_job_status_id", "status", "id"),
        Index("ix_job_created_at", "created_at"),
        Index("ix_job_status_team", "status", "team"),
        Index("ix_job_team_id", "team", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    name: str | None = Field(default=None, max_length=200)
    task: Task = Field(sa_column=Column(EnumText(Task), nullable=False))
    resolved: dict[str, Any] = Field(sa_column=_json(given_as="job"))
    """A `plan.ResolvedJob`: the specification with every default filled in and every name looked up."""
    status: JobStatus = Field(sa_column=Column(EnumText(JobStatus), nullable=False))
    status_reason: str | None = Field(default=None, sa_column=Column(Text))
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """A `JobError` once the job failed."""
    labels: dict[str, str] = Field(default_factory=dict, sa_column=_json(given_as="labels"))
    team: str = Field(max_length=100)
    priority: int = 50
    estimate: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """An `Estimate` as it was made when the job was accepted; a retry whose datasets are gone has none."""
    percent: float = 0.0
    pinned: bool = False
    """Its artifacts never expire."""
    retry_of: str | None = Field(default=None, max_length=40)
    """The ended job that this one is a retry of."""
    traceparent: str | None = Field(default=None, max_length=55)
    """The W3C trace context of the request that made it: the stages' spans are its children."""
    idempotency_key: str | None = Field(default=None, max_length=255)
    """The request's key with its team's name (`lifecycle.creation.Idempotency`)."""
    body_hash: str | None = Field(default=None, max_length=64)
    event_seq: int = 0
    """The last event's number."""
    log_seq: int = 0
    """The last log line's number."""
    created_at: datetime = Field(sa_column=_time(nullable=False))
    updated_at: datetime = Field(sa_column=_time(nullable=False))
    """Moves with every change of the job or its stages."""
    progress_at: datetime | None = Field(default=None, sa_column=_time())
    """When the last `job.progress` was written."""
    started_at: datetime | None = Field(default=None, sa_column=_time())
    finished_at: datetime | None = Field(default=None, sa_column=_time())


class Stage(SQLModel, table=True):
    """A stage of a job. Every change of `status` is a compare-and-set on (status, fence)."""

    __tablename__ = "stage"
    __table_args__ = (
        UniqueConstraint("job_id", "name", name="uq_stage_job_id_name"),
        Index("ix_stage_job_id_position", "job_id", "position"),
        Index("ix_stage_status_lease_expires_at", "status", "lease_expires_at"),
        Index("ix_stage_status_dispatch_at", "status", "dispatch_at"),
        Index("ix_stage_key_status", "key", "status"),
        Index("ix_stage_queue_status_team_rank_job_id", "queue", "status", "team", "rank", "job_id"),
        Index("ix_stage_artifact_key", "artifact_key"),
        # A second attempt at a running key would be wasted work: the database refuses it.
        Index(
            "uq_stage_running_key",
            "key",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
    )

    id: str = Field(primary_key=True, max_length=40)
    job_id: str = Field(sa_column=Column(String(40), ForeignKey("job.id"), nullable=False))
    name: str = Field(max_length=150)
    kind: StageKind = Field(sa_column=Column(EnumText(StageKind), nullable=False))
    queue: Service = Field(sa_column=Column(EnumText(Service), nullable=False))
    position: int
    rank: int = 50
    """100 minus the job's priority. Of a team's stages workers take the lowest rank first, then the oldest job's."""
    team: str = Field(max_length=100)
    """The job's."""
    parameters: dict[str, Any] = Field(sa_column=_json())
    inputs: dict[str, Any] = Field(sa_column=_json())
    """By role: `{"stage": name}` or `{"artifact": {key, digest}}`."""
    depends_on: list[str] = Field(sa_column=_json())
    status: StageStatus = Field(sa_column=Column(EnumText(StageStatus), nullable=False))
    attempt: int = 1
    """Rises when an attempt was lost or failed, not when a worker releases the stage."""
    lost_attempts: int = 0
    """Attempts in a row that failed by themselves or with their worker, without progress in between."""
    environment_retries: int = 0
    """Attempts in a row that ended for lack of a resource, such as disk space, or by an outage."""
    recompute: bool = False
    """Run although its artifact exists: a user asked for it to be computed again."""
    remakes: int = Field(default=0, sa_column=Column(Integer, nullable=False, default=0, server_default="0"))
    """The number of its runs because its stored artifact was damaged."""
    fence: int = 0
    """Rises with every claim."""
    owner: str | None = Field(default=None, max_length=200)
    device: str | None = Field(default=None, max_length=100)
    """The device that its worker has locked for it, while it runs."""
    lease_expires_at: datetime | None = Field(default=None, sa_column=_time())
    heard_by: str | None = Field(default=None, max_length=40)
    """The coordinator process that took the claim or the last renewal, while it runs."""
    unheard: bool = False
    """True if a coordinator could not store a report of the worker since then, while it runs."""
    deadline_at: datetime | None = Field(default=None, sa_column=_time())
    not_before: datetime | None = Field(default=None, sa_column=_time())
    """No claim before this time: the pause after a failure."""
    dispatch_at: datetime | None = Field(default=None, sa_column=_time())
    """When its last dispatch message was made or falls due."""
    key: str | None = Field(default=None, max_length=64)
    """Known from the moment the stage is ready."""
    artifact_key: str | None = Field(default=None, max_length=64)
    artifact_digest: str | None = Field(default=None, max_length=64)
    reused: bool = False
    progress: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """A `StageProgress`."""
    furthest_done: int = 0
    """The highest `done` that any attempt has reported."""
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """A `StageError` of the last failed attempt, kept while a new one runs."""
    created_at: datetime = Field(sa_column=_time(nullable=False))
    ready_at: datetime | None = Field(default=None, sa_column=_time())
    started_at: datetime | None = Field(default=None, sa_column=_time())
    """When the current or last attempt was claimed."""
    finished_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def artifact(self) -> ArtifactRef | None:
        """The artifact that it computed or reused, once it succeeded."""
        if self.artifact_key is None or self.artifact_digest is None:
            return None
        return ArtifactRef(key=self.artifact_key, digest=self.artifact_digest)

    @property
    def seconds(self) -> float | None:
        """Duration of the last attempt; None while it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


class Attempt(SQLModel, table=True):
    """One claim of a stage: its owner, its times and its outcome. Queueing, quotas and estimates count from it."""

    __tablename__ = "attempt"
    __table_args__ = (
        Index("ix_attempt_job_id", "job_id"),
        Index("ix_attempt_team_ended_at", "team", "ended_at"),
        Index("ix_attempt_kind_ended_at", "kind", "ended_at"),
        Index(
            "ix_attempt_running",
            "queue",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    stage_id: str = Field(sa_column=Column(String(40), ForeignKey("stage.id"), primary_key=True))
    fence: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    job_id: str = Field(sa_column=Column(String(40), ForeignKey("job.id"), nullable=False))
    team: str = Field(max_length=100)
    queue: Service = Field(sa_column=Column(EnumText(Service), nullable=False))
    kind: StageKind = Field(sa_column=Column(EnumText(StageKind), nullable=False))
    number: int
    """The stage's `attempt` at that time."""
    owner: str = Field(max_length=200)
    device: str | None = Field(default=None, max_length=100)
    outcome: AttemptOutcome = Field(sa_column=Column(EnumText(AttemptOutcome), nullable=False))
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """A `StageError` where it failed."""
    weight: float = 1.0
    """The team's weight, when it was claimed."""
    waited_seconds: float = 0.0
    """For how long the stage was ready."""
    seconds: float | None = None
    """Duration; None while it runs."""
    work: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """An `AttemptWork` where it succeeded: the amounts that the duration depends on."""
    started_at: datetime = Field(sa_column=_time(nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=_time())


class CoordinatorPulse(SQLModel, table=True):
    """A coordinator process that looks after leases. The others see by its count whether it still does."""

    __tablename__ = "coordinator_pulse"

    id: str = Field(primary_key=True, max_length=40)
    count: int
    """Rises while the process can write to the database."""
    seen_at: datetime = Field(sa_column=_time(nullable=False))


class TeamShare(SQLModel, table=True):
    """A team's share of a queue's workers so far, by start-time fair queueing (see `fair_share`)."""

    __tablename__ = "team_share"

    queue: Service = Field(sa_column=Column(EnumText(Service), primary_key=True))
    team: str = Field(primary_key=True, max_length=100)
    started: float = 0.0
    """The virtual time at which its last stage was handed out."""
    finished: float = 0.0
    """The virtual time up to which it has been served: seconds of work divided by the team's weight."""


class Artifact(SQLModel, table=True):
    """The bytes that count for a key: those of the first committed report. The row is deleted before the folder."""

    __tablename__ = "artifact"

    key: str = Field(primary_key=True, max_length=64)
    digest: str = Field(max_length=64)
    kind: str | None = Field(default=None, max_length=40)
    """The kind of the stage that made it; None where an older version wrote the row."""
    manifest: dict[str, Any] = Field(sa_column=_json())
    other_digests: list[str] = Field(default_factory=list, sa_column=_json())
    """Nondeterminism on record: other bytes that later attempts at the same key made."""
    created_at: datetime = Field(sa_column=_time(nullable=False))

    @property
    def ref(self) -> ArtifactRef:
        """The reference by which stages name it."""
        return ArtifactRef(key=self.key, digest=self.digest)


class Dataset(SQLModel, table=True):
    """An uploaded dataset; the rows are an artifact of kind "dataset"."""

    __tablename__ = "dataset"
    __table_args__ = (
        UniqueConstraint("team", "content_hash", name="uq_dataset_team_content_hash"),
        Index("ix_dataset_created_at", "created_at"),
        Index("ix_dataset_team_id", "team", "id"),
        Index("ix_dataset_content_hash", "content_hash"),
    )

    id: str = Field(primary_key=True, max_length=40)
    name: str | None = Field(default=None, max_length=200)
    task: Task = Field(sa_column=Column(EnumText(Task), nullable=False))
    rows: int
    key: str = Field(max_length=64)
    digest: str = Field(max_length=64)
    statistics: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    team: str = Field(max_length=100)
    content_hash: str = Field(max_length=64)
    """The same rows are the same dataset: a team's second upload gets the first one's id. Teams share the bytes."""
    columns: dict[str, str | list[str]] | None = Field(default=None, sa_column=_json(nullable=True, given_as="columns"))
    """By CRaFT's name of a column the file's own name or names, where they differ."""
    findings: list[dict[str, Any]] | None = Field(default=None, sa_column=_json(nullable=True))
    """`Finding`s of all uploads of these rows, each kind and field once."""
    source: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True, given_as="source"))
    """A `FetchedSource`, where the dataset was fetched from a URL."""
    created_at: datetime = Field(sa_column=_time(nullable=False))

    @property
    def ref(self) -> ArtifactRef:
        """The reference by which an `ingest` stage names it."""
        return ArtifactRef(key=self.key, digest=self.digest)


class Team(SQLModel, table=True):
    """A team, its weight and its quotas."""

    __tablename__ = "team"

    name: str = Field(primary_key=True, max_length=100)
    weight: float = 1.0
    max_running_jobs: int | None = None
    gpu_seconds_per_day: float | None = None
    gpu_seconds_per_job: float | None = None
    max_unfinished_jobs: int | None = 1000
    created_at: datetime = Field(sa_column=_time(nullable=False))


class ApiKey(SQLModel, table=True):
    """A key that authenticates requests. The row holds its hash, never the key."""

    __tablename__ = "api_key"
    __table_args__ = (Index("ix_api_key_team_id", "team", "id"),)

    id: str = Field(primary_key=True, max_length=40)
    team: str = Field(max_length=100)
    name: str = Field(max_length=200)
    role: Role = Field(sa_column=Column(EnumText(Role), nullable=False))
    scopes: list[str] = Field(sa_column=_json(given_as="scopes"))
    """Values of `Scope`: all of the role's or fewer."""
    secret_hash: str = Field(max_length=64)
    created_by: str = Field(max_length=250)
    created_at: datetime = Field(sa_column=_time(nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=_time())
    revoked_at: datetime | None = Field(default=None, sa_column=_time())
    last_used_at: datetime | None = Field(default=None, sa_column=_time())


class Event(SQLModel, table=True):
    """An event of a job, a dataset, a key or a team, numbered from 1 without gaps."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_team_created_at", "team", "created_at"),)

    subject: str = Field(primary_key=True, max_length=120)
    """The id of what it happened to, or `team:` and a team's name."""
    seq: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    team: str = Field(max_length=100)
    """The team whose audit shows it."""
    actor: str | None = Field(default=None, max_length=250)
    """The key or person that caused it; None if the system did."""
    type: EventType = Field(sa_column=Column(EnumText(EventType), nullable=False))
    data: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    created_at: datetime = Field(sa_column=_time(nullable=False))


class Deployment(SQLModel, table=True):
    """An adapter that is served. The folder that the model server reads is made from the row."""

    __tablename__ = "deployment"
    __table_args__ = (UniqueConstraint("job_id", "strategy", name="uq_deployment_job_id_strategy"),)

    id: str = Field(primary_key=True, max_length=40)
    """`adpt_…`: its model name in requests."""
    job_id: str = Field(sa_column=Column(String(40), ForeignKey("job.id"), nullable=False))
    strategy: Strategy = Field(sa_column=Column(EnumText(Strategy), nullable=False))
    artifact_key: str = Field(max_length=64)
    artifact_digest: str = Field(max_length=64)
    base: dict[str, Any] = Field(sa_column=_json())
    """A `ServedBase`."""
    created_at: datetime = Field(sa_column=_time(nullable=False))

    @property
    def artifact(self) -> ArtifactRef:
        """The package stage's artifact."""
        return ArtifactRef(key=self.artifact_key, digest=self.artifact_digest)


class Publication(SQLModel, table=True):
    """An adapter that is, or is to be, published elsewhere. Publishers change it by compare-and-set on the fence."""

    __tablename__ = "publication"
    __table_args__ = (
        UniqueConstraint("job_id", "strategy", "target_hash", name="uq_publication_job_id_strategy_target_hash"),
        Index("ix_publication_status_due_at", "status", "due_at"),
        Index("ix_publication_destination", "destination"),
        Index("ix_publication_artifact_key", "artifact_key"),
        Index("ix_publication_evaluation_key", "evaluation_key"),
    )

    id: str = Field(primary_key=True, max_length=40)
    """`publ_…`: a repeated attempt finds the registry's or hub's copy by it."""
    job_id: str = Field(sa_column=Column(String(40), ForeignKey("job.id"), nullable=False))
    team: str = Field(max_length=100)
    """The job's."""
    strategy: Strategy = Field(sa_column=Column(EnumText(Strategy), nullable=False))
    target: dict[str, Any] = Field(sa_column=_json(given_as="target"))
    """A `PublishTarget`."""
    target_hash: str = Field(max_length=64)
    """SHA-256 (hex) of the target's canonical JSON."""
    destination: str = Field(max_length=300)
    """The kind and the name there, such as `hub:acme/support-qa`. It belongs to one team."""
    artifact_key: str = Field(max_length=64)
    artifact_digest: str = Field(max_length=64)
    evaluation_key: str = Field(max_length=64)
    evaluation_digest: str = Field(max_length=64)
    status: PublicationStatus = Field(sa_column=Column(EnumText(PublicationStatus), nullable=False))
    attempts: int = 0
    fence: int = 0
    """Rises with every claim."""
    due_at: datetime = Field(sa_column=_time(nullable=False))
    """The earliest time of a claim: after a failure the end of the pause, while it runs the end of the lease."""
    url: str | None = Field(default=None, max_length=1000)
    version: str | None = Field(default=None, max_length=200)
    error: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    """A `StageError` of the last failed attempt."""
    created_at: datetime = Field(sa_column=_time(nullable=False))
    finished_at: datetime | None = Field(default=None, sa_column=_time())

    @property
    def artifact(self) -> ArtifactRef:
        """The package stage's artifact."""
        return ArtifactRef(key=self.artifact_key, digest=self.artifact_digest)

    @property
    def evaluation(self) -> ArtifactRef:
        """The evaluate stage's artifact."""
        return ArtifactRef(key=self.evaluation_key, digest=self.evaluation_digest)


class Outbox(SQLModel, table=True):
    """A dispatch message that waits to be sent, or was sent."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_unsent",
            "due_at",
            "id",
            sqlite_where=text("sent_at IS NULL"),
            postgresql_where=text("sent_at IS NULL"),
        ),
        Index("ix_outbox_stage_id", "stage_id"),
        Index("ix_outbox_sent_at", "sent_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(_BIG, primary_key=True, autoincrement=True))
    stage_id: str = Field(sa_column=Column(String(40), ForeignKey("stage.id"), nullable=False))
    queue: Service = Field(sa_column=Column(EnumText(Service), nullable=False))
    created_at: datetime = Field(sa_column=_time(nullable=False))
    due_at: datetime = Field(sa_column=_time(nullable=False))
    """The earliest time to send it: the pause after a failure is kept here, not in the broker."""
    leased_until: datetime | None = Field(default=None, sa_column=_time())
    """A relay is sending it. After this time another relay may."""
    sent_at: datetime | None = Field(default=None, sa_column=_time())


class Webhook(SQLModel, table=True):
    """An address that receives a team's events."""

    __tablename__ = "webhook"
    __table_args__ = (Index("ix_webhook_team_id", "team", "id"),)

    id: str = Field(primary_key=True, max_length=40)
    team: str = Field(max_length=100)
    name: str | None = Field(default=None, max_length=200)
    url: str = Field(sa_column=Column(Text, nullable=False))
    host: str = Field(max_length=255)
    """The URL's."""
    types: list[str] = Field(sa_column=_json(given_as="types"))
    """Patterns, see `contracts.webhooks.wants`."""
    active: bool = True
    inactive_reason: str | None = Field(default=None, sa_column=Column(Text))
    secret: str = Field(sa_column=Column(Text, nullable=False))
    """Encrypted (`webhooks.secrets.SecretBox`), not hashed: signing needs the secret itself."""
    old_secret: str | None = Field(default=None, sa_column=Column(Text))
    old_secret_until: datetime | None = Field(default=None, sa_column=_time())
    failures: int = 0
    """Attempts in a row that failed."""
    failing_since: datetime | None = Field(default=None, sa_column=_time())
    last_delivered_at: datetime | None = Field(default=None, sa_column=_time())
    created_by: str = Field(max_length=250)
    created_at: datetime = Field(sa_column=_time(nullable=False))


class Delivery(SQLModel, table=True):
    """A message to one webhook, written in the transaction of its event.

    It has no foreign key to its webhook: the deletion of a webhook must never fail a transition of a job.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        Index(
            "ix_webhook_delivery_due",
            "webhook_id",
            "due_at",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(
            "ix_webhook_delivery_unsent",
            "created_at",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_webhook_delivery_webhook_id_id", "webhook_id", "id"),
        Index("ix_webhook_delivery_ended_at", "ended_at"),
    )

    id: str = Field(primary_key=True, max_length=40)
    """The message's id as well: the same in every attempt and redelivery."""
    webhook_id: str = Field(max_length=40)
    type: str = Field(max_length=40)
    body: str = Field(sa_column=Column(Text, nullable=False))
    """The body that is sent, in ASCII."""
    status: DeliveryStatus = Field(sa_column=Column(EnumText(DeliveryStatus), nullable=False))
    attempts: int = 0
    """Attempts begun so far. The number of the running attempt is its fence."""
    tries: int = 0
    """Attempts since it was last queued."""
    due_at: datetime = Field(sa_column=_time(nullable=False))
    """The earliest time of the next attempt."""
    leased_until: datetime | None = Field(default=None, sa_column=_time())
    """An attempt is running. After this time another sender may begin the next."""
    give_up_at: datetime = Field(sa_column=_time(nullable=False))
    attempted_at: datetime | None = Field(default=None, sa_column=_time())
    response_status: int | None = None
    response_body: str | None = Field(default=None, sa_column=Column(Text))
    error: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime = Field(sa_column=_time(nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=_time())


class StageLog(SQLModel, table=True):
    """A log line of a stage's process, numbered from 1 without gaps within the job."""

    __tablename__ = "stage_log"
    __table_args__ = (Index("ix_stage_log_stage_id_seq", "stage_id", "seq"),)

    job_id: str = Field(sa_column=Column(String(40), ForeignKey("job.id"), primary_key=True))
    seq: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    stage_id: str = Field(sa_column=Column(String(40), ForeignKey("stage.id"), nullable=False))
    attempt: int
    line: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(sa_column=_time(nullable=False))
