"""OpenAI's files and fine-tuning jobs, which stand for datasets and jobs here. Other members are refused."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import PlainText, Seed

_FILE = "file-01jgywz3x4v5q6r7s8t9vawbxc"
_JOB = "ftjob-01jgywz3x4v5q6r7s8t9vawbxc"
_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
Auto = Literal["auto"]
_Key = Annotated[PlainText, Field(min_length=1, max_length=64)]
_Value = Annotated[PlainText, Field(max_length=512)]


class _TuningContract(Contract):
    """The base of requests. JSON types are not converted: "3" is not a number."""

    model_config = ConfigDict(strict=True)


class FileObject(Contract):
    """OpenAI's `file`: an open-ended dataset."""

    id: str = Field(examples=[_FILE])
    object: Literal["file"] = "file"
    bytes: int = Field(description="Size of the stored questions.")
    created_at: int = Field(description="Seconds since 1970.")
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed", "error"] = "processed"
    status_details: str | None = None


class FileList(Contract):
    """A page of files; the next one is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Contract):
    """A deleted file."""

    id: str = Field(examples=[_FILE])
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class TuningHyperparameters(_TuningContract):
    """Hyperparameters. An absent one, or `auto`, means the method's default."""

    n_epochs: Annotated[int, Field(ge=1, le=100)] | Auto | None = Field(None, description="`training.epochs`")
    batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto | None = Field(None, description="`training.batch_size`")
    learning_rate_multiplier: Annotated[float, Field(gt=0.0, le=5000.0)] | Auto | None = Field(
        None, description="`training.learning_rate` as a multiple of its default."
    )


class SupervisedMethod(_TuningContract):
    """The only method that is supported."""

    hyperparameters: TuningHyperparameters | None = None


class TuningMethod(_TuningContract):
    """The tuning method: `supervised`. The others are refused by name."""

    type: PlainText = Field(max_length=100, examples=["supervised"])
    supervised: SupervisedMethod | None = None
    dpo: dict[str, object] | None = Field(None, description="Refused.")
    reinforcement: dict[str, object] | None = Field(None, description="Refused.")


class TuningJobRequest(_TuningContract):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": _MODEL, "training_file": _FILE, "suffix": "support-qa", "seed": 7}]}
    )

    model: PlainText = Field(min_length=1, max_length=200, description="A base model's id.", examples=[_MODEL])
    training_file: PlainText = Field(max_length=100, examples=[_FILE])
    validation_file: PlainText | None = Field(None, max_length=100, description="A further evaluation set.")
    hyperparameters: TuningHyperparameters | None = Field(
        None, description="The older place of the method's hyperparameters."
    )
    method: TuningMethod | None = None
    suffix: Annotated[PlainText, Field(min_length=1, max_length=64)] | None = Field(None, description="The job's name.")
    seed: Seed | None = None
    metadata: Annotated[dict[_Key, _Value], Field(max_length=16)] | None = Field(None, description="The job's labels.")
    integrations: list[dict[str, object]] | None = Field(None, max_length=5, description="Refused unless empty.")
    craft: dict[str, object] | None = Field(
        None,
        description="Extension of OpenAI: further members of `POST /craft/jobs`, such as `strategies` or `selection`.",
        examples=[{"strategies": ["craft"]}],
    )


class TuningHyperparametersUsed(Contract):
    """The hyperparameters that the job trains with."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float


class SupervisedMethodUsed(Contract):
    """The supervised method that the job trains with."""

    hyperparameters: TuningHyperparametersUsed


class TuningMethodUsed(Contract):
    """The method that the job trains with."""

    type: Literal["supervised"] = "supervised"
    supervised: SupervisedMethodUsed


class TuningError(Contract):
    """The error of a failed job."""

    code: str
    message: str
    param: str | None


TuningStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]


class TuningJob(Contract):
    """OpenAI's `fine_tuning.job`: a job."""

    id: str = Field(examples=[_JOB])
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    model: str
    status: TuningStatus
    fine_tuned_model: str | None = Field(
        description="The `model` for `/v1/chat/completions`; null if no adapter is deployed."
    )
    training_file: str
    validation_file: str | None
    hyperparameters: TuningHyperparametersUsed
    method: TuningMethodUsed
    seed: int
    metadata: dict[str, str]
    integrations: list[str] = Field(default_factory=list)
    result_files: list[str] = Field(default_factory=list, description="Empty: the report is at `/craft/jobs/…/report`.")
    trained_tokens: int | None
    error: TuningError | None
    organization_id: str = Field(description="The team.")
    created_at: int
    finished_at: int | None
    estimated_finish: int | None


class TuningJobList(Contract):
    """Jobs that were created by this API, newest first; the next page is `?after=<id of the last>`."""

    object: Literal["list"] = "list"
    data: list[TuningJob]
    has_more: bool


class TuningEvent(Contract):
    """OpenAI's `fine_tuning.job.event`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, JsonValue]


class TuningEventList(Contract):
    """Events, newest first; the next page is `?after=<id of the last>`."""

    object: Literal["list"] = "list"
    data: list[TuningEvent]
    has_more: bool


class TuningCheckpointList(Contract):
    """Always empty: checkpoints here only let a stopped training continue, and are not served."""

    object: Literal["list"] = "list"
    data: list[TuningEvent] = Field(default_factory=list, max_length=0)
    first_id: None = None
    last_id: None = None
    has_more: Literal[False] = False
