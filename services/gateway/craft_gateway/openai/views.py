"""Shows jobs and events in OpenAI's form, by pure functions."""

from craft.contracts.events import EventType
from craft.contracts.openai.tuning import (
    SupervisedMethodUsed,
    TuningError,
    TuningEvent,
    TuningHyperparametersUsed,
    TuningJob,
    TuningMethodUsed,
    TuningStatus,
)
from craft.contracts.public.jobs import EventView, JobView
from craft.contracts.spec.jobs import JobStatus, TrainingSettings
from craft.contracts.stages.names import INGEST
from craft_gateway.openai.ids import event_id, openai_id
from craft_gateway.openai.specification import API_LABEL, VALIDATION_NAME

_STATUS: dict[JobStatus, TuningStatus] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "running",
    JobStatus.PAUSING: "paused",
    JobStatus.PAUSED: "paused",
    JobStatus.CANCELLING: "cancelled",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
_TEXTS = {
    EventType.JOB_CREATED: "The job was created.",
    EventType.JOB_QUEUED: "The job waits for a worker.",
    EventType.JOB_STARTED: "The job has started.",
    EventType.JOB_CANCELLING: "The job is being cancelled.",
    EventType.JOB_PAUSING: "The job is being paused.",
    EventType.JOB_PAUSED: "The job is paused.",
    EventType.JOB_RESUMED: "The job goes on.",
    EventType.JOB_CANCELLED: "The job was cancelled.",
    EventType.STAGE_STARTED: "{stage} has started.",
    EventType.STAGE_SUCCEEDED: "{stage} is done.",
    EventType.STAGE_REUSED: "{stage} was done before, and is used again.",
    EventType.STAGE_RETRIED: "{stage} is done again.",
    EventType.STAGE_FAILED: "{stage} failed.",
    EventType.ADAPTER_DEPLOYED: "The adapter is served as {model}.",
    EventType.ADAPTER_WITHDRAWN: "The adapter is served as {model} no longer.",
}
_WARNINGS = {EventType.STAGE_RETRIED, EventType.JOB_CANCELLED, EventType.ADAPTER_WITHDRAWN}


def tuning_job(job: JobView, *, model: str | None, trained_tokens: int | None) -> TuningJob:
    """Return a job in OpenAI's form; `model` is the name of its deployed adapter."""
    spec = job.resolved
    used = TuningHyperparametersUsed(
        n_epochs=spec.training.epochs,
        batch_size=spec.training.batch_size,
        learning_rate_multiplier=spec.training.learning_rate / TrainingSettings().learning_rate,
    )
    validation = next((further.dataset for further in spec.evaluation if further.name == VALIDATION_NAME), None)
    error = job.error
    return TuningJob(
        id=openai_id(job.id),
        model=spec.base_model.id,
        status=_status(job),
        fine_tuned_model=model,
        training_file=openai_id(spec.dataset.id or ""),
        validation_file=None if validation is None else openai_id(validation),
        hyperparameters=used,
        method=TuningMethodUsed(supervised=SupervisedMethodUsed(hyperparameters=used)),
        seed=spec.seed,
        metadata={name: value for name, value in job.labels.items() if name != API_LABEL},
        trained_tokens=trained_tokens,
        error=None if error is None else TuningError(code=error.code, message=error.message, param=error.param),
        organization_id=job.team,
        created_at=int(job.created_at.timestamp()),
        finished_at=None if job.finished_at is None else int(job.finished_at.timestamp()),
        estimated_finish=None if job.estimated_finish_at is None else int(job.estimated_finish_at.timestamp()),
    )


def tuning_event(event: EventView, *, serves: bool) -> TuningEvent:
    """Return an event in OpenAI's form; `serves`: this installation serves adapters."""
    failed = event.type in {EventType.JOB_FAILED, EventType.STAGE_FAILED}
    metrics = event.type is EventType.JOB_PROGRESS
    return TuningEvent(
        id=event_id(event.job_id, event.seq),
        created_at=int(event.created_at.timestamp()),
        level="error" if failed else "warn" if event.type in _WARNINGS else "info",
        message=_message(event, serves=serves),
        type="metrics" if metrics else "message",
        data={"event": event.type.value, **event.data},
    )


def _status(job: JobView) -> TuningStatus:
    done = [stage for stage in job.stages if stage.status.terminal]
    if job.status is JobStatus.RUNNING and not done and job.progress.stage == INGEST:
        return "validating_files"
    return _STATUS[job.status]


def _message(event: EventView, *, serves: bool) -> str:
    if event.type is EventType.JOB_PROGRESS:
        return f"{event.data.get('stage')}: {event.data.get('done')} of {event.data.get('total')}"
    if event.type is EventType.JOB_SUCCEEDED:
        path = f"/craft/jobs/{event.job_id}"
        advice = "Retrieve the job for the model's name." if serves else _NOT_SERVED.format(path=path)
        return f"The job succeeded. Its report is at {path}/report. {advice}"
    if event.type is EventType.JOB_FAILED:
        error = event.data.get("error")
        return f"The job failed: {error.get('message') if isinstance(error, dict) else error}"
    text = _TEXTS.get(event.type, event.type.value)
    return text.format(stage=event.data.get("stage"), model=event.data.get("model"))


_NOT_SERVED = (
    "This installation serves no adapters: download it at {path}/adapter, or have CRAFT_INFERENCE__ENGINE=vllm set "
    "and deploy it with POST {path}/deploy."
)
