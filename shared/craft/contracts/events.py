"""The one event table's rows as they travel, and the states of a stage that they tell of."""

from enum import StrEnum


class StageStatus(StrEnum):
    """A stage's status. The last four are terminal."""

    PENDING = "pending"
    """Waits for an earlier stage."""
    READY = "ready"
    """Waits for a worker."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Never run to its end, because the job failed elsewhere."""

    @property
    def terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self not in {StageStatus.PENDING, StageStatus.READY, StageStatus.RUNNING}

    @property
    def waits(self) -> bool:
        """Whether the stage is still to be done and no worker has it."""
        return self in {StageStatus.PENDING, StageStatus.READY}


class EventType(StrEnum):
    """What happened. `stage.*` and `job.progress` carry `stage` in their data; `stage.*` also `attempt`."""

    JOB_CREATED = "job.created"
    JOB_QUEUED = "job.queued"
    JOB_STARTED = "job.started"
    JOB_PROGRESS = "job.progress"
    """Data: percent, stage, done, total, metrics. At most one a second for each job."""
    JOB_CANCELLING = "job.cancelling"
    JOB_PAUSING = "job.pausing"
    """No stage starts any more; what runs is told to stop."""
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
    """Data: model, strategy. May come after the job's terminal event, as `adapter.withdrawn` may."""
    ADAPTER_WITHDRAWN = "adapter.withdrawn"
    """Data: model, strategy."""
    ADAPTER_PUBLISHING = "adapter.publishing"
    """Somebody asked for it. Data: publication, strategy, target."""
    ADAPTER_PUBLISHED = "adapter.published"
    """Data also: url, version. May come after the job's terminal event, as the one before and the next may."""
    ADAPTER_PUBLISH_FAILED = "adapter.publish_failed"
    """Data: publication, strategy, target, error (a StageError)."""
    DATASET_CREATED = "dataset.created"
    """Data: name, rows. This and what follows tell of no job."""
    DATASET_DELETED = "dataset.deleted"
    KEY_CREATED = "key.created"
    """Data: name, role."""
    KEY_REVOKED = "key.revoked"
    """Data: name."""
    TEAM_CHANGED = "team.changed"
    """Data: what it may use from then on."""
    WEBHOOK_CREATED = "webhook.created"
    """Data: host, types."""
    WEBHOOK_CHANGED = "webhook.changed"
    """Data: active, types."""
    WEBHOOK_ROTATED = "webhook.rotated"
    """It has a new secret."""
    WEBHOOK_DISABLED = "webhook.disabled"
    """The system switched it off. Data: host, reason."""
    WEBHOOK_DELETED = "webhook.deleted"
    """Data: host."""

    @property
    def terminal(self) -> bool:
        """Whether this ends the job."""
        return self in {EventType.JOB_SUCCEEDED, EventType.JOB_FAILED, EventType.JOB_CANCELLED}

    @property
    def of_adapter(self) -> bool:
        """Whether this tells of what became of a finished adapter, whatever became of its job."""
        return self.value.startswith("adapter.")
