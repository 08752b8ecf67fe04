"""The types of events, and the statuses of a stage."""

from enum import StrEnum


class StageStatus(StrEnum):
    """A stage's status. The last four are terminal."""

    PENDING = "pending"
    """The stage waits for an earlier stage."""
    READY = "ready"
    """The stage waits for a worker."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """The stage did not run to its end, because the job failed elsewhere."""

    @property
    def terminal(self) -> bool:
        """True if the status is final."""
        return self not in {StageStatus.PENDING, StageStatus.READY, StageStatus.RUNNING}

    @property
    def waits(self) -> bool:
        """True if the stage is still to be done and no worker has it."""
        return self in {StageStatus.PENDING, StageStatus.READY}


class EventType(StrEnum):
    """Types of events. The data of `stage.*` and `job.progress` has `stage`; that of `stage.*` also has `attempt`."""

    JOB_CREATED = "job.created"
    JOB_QUEUED = "job.queued"
    JOB_STARTED = "job.started"
    JOB_PROGRESS = "job.progress"
    """Data: percent, stage, done, total, metrics. At most one per second for each job."""
    JOB_CANCELLING = "job.cancelling"
    JOB_PAUSING = "job.pausing"
    """No further stage starts, and running stages are asked to stop."""
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    """Data: error, a JobError."""
    JOB_CANCELLED = "job.cancelled"
    STAGE_STARTED = "stage.started"
    STAGE_SUCCEEDED = "stage.succeeded"
    """Data also: seconds, percent."""
    STAGE_REUSED = "stage.reused"
    """Data also: percent."""
    STAGE_RETRIED = "stage.retried"
    """Data also: error (absent where a worker gave the stage back), retry_seconds."""
    STAGE_FAILED = "stage.failed"
    """Data also: error, a StageError."""
    ADAPTER_DEPLOYED = "adapter.deployed"
    """Data: model, strategy. This event and `adapter.withdrawn` may follow the job's terminal event."""
    ADAPTER_WITHDRAWN = "adapter.withdrawn"
    """Data: model, strategy."""
    ADAPTER_PUBLISHING = "adapter.publishing"
    """A user requested it. Data: publication, strategy, target."""
    ADAPTER_PUBLISHED = "adapter.published"
    """Data also: url, version. All three publishing events may follow the job's terminal event."""
    ADAPTER_PUBLISH_FAILED = "adapter.publish_failed"
    """Data: publication, strategy, target, error (a StageError)."""
    DATASET_CREATED = "dataset.created"
    """Data: name, rows. This event and the following ones belong to no job."""
    DATASET_DELETED = "dataset.deleted"
    KEY_CREATED = "key.created"
    """Data: name, role."""
    KEY_REVOKED = "key.revoked"
    """Data: name."""
    TEAM_CHANGED = "team.changed"
    """Data: the team's new settings."""
    WEBHOOK_CREATED = "webhook.created"
    """Data: host, types."""
    WEBHOOK_CHANGED = "webhook.changed"
    """Data: active, types."""
    WEBHOOK_ROTATED = "webhook.rotated"
    """The webhook has a new secret."""
    WEBHOOK_DISABLED = "webhook.disabled"
    """The system disabled the webhook. Data: host, reason."""
    WEBHOOK_DELETED = "webhook.deleted"
    """Data: host."""

    @property
    def terminal(self) -> bool:
        """True if this event ends the job."""
        return self in {EventType.JOB_SUCCEEDED, EventType.JOB_FAILED, EventType.JOB_CANCELLED}

    @property
    def of_adapter(self) -> bool:
        """True if this event is about a finished adapter, whatever the state of its job."""
        return self.value.startswith("adapter.")
