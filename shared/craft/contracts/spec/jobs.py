"""The specification of a job: every parameter of the method with its default (method.md)."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from craft.contracts.base import DATASET_ID, NAME, Contract
from craft.contracts.findings import Accept
from craft.contracts.spec.chats import TemplateArguments, TemplateText, with_defaults
from craft.core.judging.refusals import MAX_PHRASE_LENGTH, MAX_PHRASES
from craft.core.prompts import MAX_TEMPLATE_BYTES, MAX_TEMPLATES
from craft.core.questions import Task
from craft.core.strategies import FlowRule, Shortage, Strategy

MAX_INLINE_ROWS = 10_000
MODEL_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
REVISION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
MODEL_AT_REVISION = MODEL_ID.removesuffix("$") + r"(@[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"

MAX_INTEGER = 2**31 - 1

PlainText = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Text that every store can hold: without NUL and, as a pattern needs UTF-8, without lone surrogates. Each use of it
says its longest length."""

Seed = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Count = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
LabelName = Annotated[PlainText, Field(min_length=1, max_length=100)]
LabelValue = Annotated[PlainText, Field(max_length=512)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$", examples=["q_proj"])]
Phrase = Annotated[PlainText, Field(min_length=1, max_length=MAX_PHRASE_LENGTH)]
TemplateName = Annotated[PlainText, Field(min_length=1, max_length=40)]
Template = Annotated[PlainText, Field(max_length=MAX_TEMPLATE_BYTES)]


class BaseModelRef(Contract):
    """A model by its hub id, or by its folder's name in the operator's models folder."""

    id: str = Field(pattern=MODEL_ID, examples=["HuggingFaceTB/SmolLM2-135M-Instruct"])
    revision: str = Field("main", pattern=REVISION)
    chat_template_arguments: TemplateArguments = Field(
        default_factory=lambda: with_defaults({}),
        description="Variables for the model's chat template, in every prompt of the job and of the served adapter. "
        "By default `enable_thinking` and `thinking` are false; given names are added to these.",
        examples=[{"enable_thinking": False}],
    )
    chat_template: TemplateText | None = Field(
        None, description="A chat template (Jinja) in place of the one in the model's folder, which may have none."
    )


class DatasetRef(Contract):
    """An uploaded dataset, or inline rows."""

    id: str | None = Field(None, pattern=DATASET_ID, examples=["dset_01jgywz3x4v5q6r7s8t9vawbxc"])
    rows: list[dict[str, object]] | None = Field(None, max_length=MAX_INLINE_ROWS)

    @model_validator(mode="after")
    def _check_exactly_one(self) -> "DatasetRef":
        if (self.id is None) == (self.rows is None):
            raise ValueError("give either the id of an uploaded dataset or inline rows")
        return self


def _model_named(given: object) -> object:
    """A model's name as the object with this id, and the revision after `@`; anything else as it is."""
    if not isinstance(given, str):
        return given
    name, at, revision = given.partition("@")
    return {"id": name, "revision": revision} if at else {"id": name}


def _dataset_named(given: object) -> object:
    """A dataset's id as the object with this id; anything else as it is."""
    return {"id": given} if isinstance(given, str) else given


ModelName = Annotated[str, Field(pattern=MODEL_AT_REVISION, examples=["HuggingFaceTB/SmolLM2-135M-Instruct@main"])]
"""`owner/name` or `owner/name@revision`: a short form of BaseModelRef."""
DatasetId = Annotated[str, Field(pattern=DATASET_ID, examples=["dset_01jgywz3x4v5q6r7s8t9vawbxc"])]
GivenModel = Annotated[BaseModelRef, BeforeValidator(_model_named, json_schema_input_type=BaseModelRef | ModelName)]
GivenDataset = Annotated[DatasetRef, BeforeValidator(_dataset_named, json_schema_input_type=DatasetRef | DatasetId)]


class EvaluationSet(Contract):
    """A further evaluation set; all of its questions are used."""

    dataset: str = Field(pattern=DATASET_ID)
    role: Literal["out_of_domain"] = "out_of_domain"
    name: str | None = Field(None, pattern=NAME, description="Its name in the report; by default the dataset's.")


class SplitSettings(Contract):
    """The split of the dataset, by a hash of what each row asks: equal questions are on one side, in any order."""

    held_out_fraction: float = Field(0.2, gt=0.0, lt=1.0)


class ProbeSettings(Contract):
    """Step 1 of the method (shared/docs/method.md): the questions that show what the model knows."""

    samples: int = Field(10, ge=1, le=100, description="N, the number of sampled replies to each open-ended question.")
    temperature: float = Field(1.0, ge=0.0, le=5.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_new_tokens: int = Field(50, ge=1, le=2048)
    shots: list[dict[str, object]] | None = Field(
        None,
        max_length=32,
        description="Few-shot examples as dataset rows; by default built in. They must not be in the held-out split.",
    )


class Quantization(StrEnum):
    """The form of the base model's weights while an adapter is trained on them."""

    NONE = "none"
    """That of the trainer's dtype, in which the model is served too."""
    NF4 = "nf4"
    """4 bits (QLoRA): a third of the memory, but the adapter is served on weights that it was not trained on."""


class TrainingSettings(Contract):
    """LoRA tuning (method.md, step 9)."""

    lora_r: int = Field(64, ge=1, le=512)
    lora_alpha: int = Field(16, ge=1, le=1024)
    lora_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    target_modules: Annotated[list[ModuleName], Field(min_length=1, max_length=256)] | Literal["all-linear"] = Field(
        "all-linear", description="Names of linear layers, such as q_proj, or whole paths of some."
    )
    learning_rate: float = Field(2e-4, gt=0.0, le=1.0)
    epochs: int = Field(3, ge=1, le=100)
    batch_size: int = Field(16, ge=1, le=1024, description="Training rows in one optimiser step.")
    warmup_ratio: float = Field(0.03, ge=0.0, le=1.0)
    weight_decay: float = Field(0.0, ge=0.0, le=1.0)
    max_grad_norm: float = Field(1.0, gt=0.0, le=1e6)
    max_length: int = Field(
        2048, ge=16, le=131_072, description="Tokens of prompt and target. Longer rows are `rows_too_long`."
    )
    min_steps: Count = Field(1, description="With fewer optimiser steps the stage fails.")
    quantization: Quantization = Field(
        Quantization.NONE,
        description="`nf4` trains on weights of 4 bits, where the deployment has bitsandbytes. Everything else, also "
        "the comparison of the packaged adapter, is on the weights that are served.",
    )

    @model_validator(mode="after")
    def _check_unique_modules(self) -> "TrainingSettings":
        if self.target_modules != "all-linear" and len(set(self.target_modules)) != len(self.target_modules):
            raise ValueError("name each of target_modules once")
        return self


class RehearsalSettings(Contract):
    """Steps 3 and 4 of the method: the rehearsal set, and a short trial tuning on it."""

    size: Count | None = Field(None, description="Questions; by default min(1000, 10 % of the training split).")
    threshold: Share = Field(0.99, description="Minimum correctness and certainty of a rehearsal question.")
    relax_steps: list[Share] = Field(
        default_factory=lambda: [0.9, 0.75, 0.5], max_length=16, description="Lower thresholds, tried in turn."
    )
    shortage: Shortage = Shortage.SHRINK
    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings(min_steps=8))

    @model_validator(mode="after")
    def _check_served_weights(self) -> "RehearsalSettings":
        # What 4 bits change would be taken for knowledge that moves.
        if self.training.quantization is not Quantization.NONE:
            raise ValueError("rehearse on the weights that are served: leave rehearsal.training.quantization at none")
        return self


class VanTarget(StrEnum):
    """The target text of `van` questions: those that are trained with their answer (van: vanilla)."""

    DATASET = "dataset"
    """The first accepted answer, as in the paper."""
    OWN = "own"
    """The model's own most frequent right answer, as in rehearsal; the dataset's answer where the model has none."""


class SelectionSettings(Contract):
    """Steps 6 and 7 of the method. Default sizes are the largest that the training split allows at the 4 : 1 ratio."""

    tau: Share = Field(0.5, description="Minimum correctness of a question that the model counts as knowing.")
    margin: float = Field(
        0.0, ge=-1.0, le=1.0, description="An unknown question that gains more correctness than this is dropped."
    )
    flow_rule: FlowRule = FlowRule.IMPROVED
    n_van: Count | None = None
    n_idk: Count | None = None
    shortage: Shortage = Shortage.SHRINK
    van_target: VanTarget = VanTarget.DATASET


class EvaluationSettings(Contract):
    """The greedy, zero-shot evaluation and its bootstrap."""

    max_new_tokens: int = Field(50, ge=1, le=2048)
    resamples: int = Field(2000, ge=100, le=100_000)


class PromptSettings(Contract):
    """Templates that replace the defaults (`craft.core.prompts.PromptTemplates` has their names), and refusals."""

    templates: dict[TemplateName, Template] = Field(default_factory=dict, max_length=MAX_TEMPLATES)
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="Language of the refusals to detect.")
    extra_refusals: list[Phrase] = Field(
        default_factory=list, max_length=MAX_PHRASES, description="Further wordings of a refusal, each a phrase."
    )


class JobSpec(Contract):
    """The body of `POST /craft/jobs`. Every field but the model and the dataset has a default."""

    name: PlainText | None = Field(None, min_length=1, max_length=200)
    base_model: GivenModel = Field(description="The model that is tuned; as a text, `owner/name` or `name@revision`.")
    dataset: GivenDataset = Field(description="The questions; a text is the id of an uploaded dataset.")
    task: Task = Field(Task.OPEN_ENDED, description="Inline rows with `choices` require it.")
    strategies: list[Strategy] = Field(default_factory=lambda: [Strategy.CRAFT], min_length=1, max_length=5)
    evaluation: list[EvaluationSet] = Field(default_factory=list, max_length=16)
    split: SplitSettings = Field(default_factory=SplitSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    rehearsal: RehearsalSettings = Field(default_factory=RehearsalSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation_settings: EvaluationSettings = Field(default_factory=EvaluationSettings)
    prompts: PromptSettings = Field(default_factory=PromptSettings)
    accept: Accept = Field(default_factory=list)
    seed: Seed = 42
    priority: int = Field(50, ge=0, le=100)
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _check_unique_strategies(self) -> "JobSpec":
        if len(set(self.strategies)) != len(self.strategies):
            raise ValueError("name each strategy once")
        return self


class RetryRequest(Contract):
    """The body of `POST /craft/jobs/{id}/retry`; it may be left out."""

    from_stage: PlainText | None = Field(
        None,
        max_length=150,
        description="Compute this stage and all that depend on it again. By default existing results are reused.",
        examples=["tune:craft"],
    )


class JobStatus(StrEnum):
    """A job's status. The last three are terminal and never change."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True if the status is final."""
        return self in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}

    @property
    def schedulable(self) -> bool:
        """True if workers may take the job's ready stages."""
        return self in {JobStatus.QUEUED, JobStatus.RUNNING}

    @property
    def counts_as_running(self) -> bool:
        """True if the job takes one of its team's places: it has begun, and a worker may still have a stage of it."""
        return self in {JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING}

    @property
    def pause_requested(self) -> bool:
        """True if `pause` was asked for and `resume` was not."""
        return self in {JobStatus.PAUSING, JobStatus.PAUSED}

    @property
    def waits(self) -> bool:
        """True if the job has not ended and no worker has a stage of it."""
        return self in {JobStatus.QUEUED, JobStatus.PAUSED}
