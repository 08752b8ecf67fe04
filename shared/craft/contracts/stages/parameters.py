"""The parameters of each kind of stage. They are part of the stage's key."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from craft.contracts.base import Contract, Digest
from craft.contracts.findings import Accept, Finding
from craft.contracts.spec.chats import ChatFormat
from craft.contracts.spec.jobs import (
    EvaluationSettings,
    ProbeSettings,
    PromptSettings,
    Quantization,
    Seed,
    SelectionSettings,
    Share,
    TrainingSettings,
)
from craft.contracts.stages.kinds import StageKind
from craft.core.prompts import PromptMode
from craft.core.questions import Task
from craft.core.strategies import Shortage, Strategy


class ModelRef(Contract):
    """A base model as resolved when the job was accepted. `digest` is over its files: changed files are another."""

    id: str
    revision: str
    digest: Digest
    chat: ChatFormat = Field(default_factory=ChatFormat, description="The form of every chat with the model.")

    @property
    def weights(self) -> "ModelRef":
        """The same files, whatever the form of chats: models that are equal in this can share what is loaded."""
        return self.model_copy(update={"chat": ChatFormat()})


LibraryVersions = Annotated[
    str,
    Field(
        max_length=200,
        description='Such as "transformers 5.23.0, torch 2.13.0"; empty in jobs that were accepted without.',
    ),
]


class EngineRef(Contract):
    """The engine, and what of its deployment changes results. A worker that differs refuses the stage."""

    name: Literal["transformers", "vllm"] = "transformers"
    versions: LibraryVersions = ""
    device: Literal["cpu", "cuda"] = "cpu"
    options: Digest | None = Field(None, description="Of the further options that change replies or probabilities.")
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    questions_per_batch: int = Field(32, ge=1, description="The batch changes roundings, and so draws.")
    questions_per_shard: int = Field(
        256, ge=1, description="Questions between two checkpoints of a stage, at most; as above."
    )


class TrainerRef(Contract):
    """The training service, and what of its deployment changes results. A worker that differs refuses the stage."""

    versions: LibraryVersions = ""
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


class IngestParameters(Contract):
    """Inputs `dataset` and `evaluated:<name>`, the evaluation sets whose questions must not train.

    Split a dataset; `held_out_fraction` 1 puts every question into the held-out file.
    """

    kind: Literal[StageKind.INGEST] = StageKind.INGEST
    task: Task
    held_out_fraction: Share
    seed: Seed
    left_out: list[int] = Field(
        default_factory=list, description="Lines of the dataset, from 1, that the job goes on without."
    )


class ProbeParameters(Contract):
    """Inputs `questions` (an ingest artifact) and, for the rehearsed model, `adapter`.

    `accept` has only codes of this stage's findings: what else a job accepts must not change the key.
    """

    kind: Literal[StageKind.PROBE] = StageKind.PROBE
    task: Task
    model: ModelRef
    engine: EngineRef
    probe: ProbeSettings
    prompts: PromptSettings
    seed: Seed
    accept: Accept = Field(default_factory=list)


class ScoreParameters(Contract):
    """Inputs `questions`, `probe`."""

    kind: Literal[StageKind.SCORE] = StageKind.SCORE
    task: Task
    embedder: str
    prompts: PromptSettings


class RehearsalSetParameters(Contract):
    """Inputs `questions`, `probe`, `diagnosis` (the same probe), `states`. `size` None means min(1000, 10 %)."""

    kind: Literal[StageKind.REHEARSAL_SET] = StageKind.REHEARSAL_SET
    task: Task
    size: int | None
    threshold: Share
    relax_steps: list[Share]
    shortage: Shortage
    prompts: PromptSettings


class RehearseParameters(Contract):
    """Inputs `rows`, a training set, and `diagnosis`, the probe that explains a set that is too small."""

    kind: Literal[StageKind.REHEARSE] = StageKind.REHEARSE
    model: ModelRef
    trainer: TrainerRef = TrainerRef()
    training: TrainingSettings
    seed: Seed


class FlowParameters(Contract):
    """Inputs `before`, `after`, two state artifacts over the same questions."""

    kind: Literal[StageKind.FLOW] = StageKind.FLOW


class TuningSetParameters(Contract):
    """Inputs `questions`, `states`, `diagnosis` (the probe), and where the job has them `flow` and `probe`.

    `probe` is there where targets are the model's own answers. `compared_with` lists the job's strategies: sets
    shrink together, so that all are of one size.
    """

    kind: Literal[StageKind.TUNING_SET] = StageKind.TUNING_SET
    task: Task
    strategy: Strategy
    compared_with: list[Strategy] = Field(default_factory=list)
    selection: SelectionSettings
    prompts: PromptSettings
    seed: Seed


class TuneParameters(Contract):
    """Input `rows`, a training set."""

    kind: Literal[StageKind.TUNE] = StageKind.TUNE
    model: ModelRef
    trainer: TrainerRef = TrainerRef()
    training: TrainingSettings
    seed: Seed


class AnswerParameters(Contract):
    """Inputs `questions` (the held-out set), `questions:<name>` (further sets) and, for a tuned model, `adapter`.

    `accept` as for the probe.
    """

    kind: Literal[StageKind.ANSWER] = StageKind.ANSWER
    task: Task
    model: ModelRef
    engine: EngineRef
    mode: PromptMode
    max_new_tokens: int
    prompts: PromptSettings
    accept: Accept = Field(default_factory=list)


class EvaluateParameters(Contract):
    """Inputs `questions`, `questions:<name>` …, replies `initial_basic`, `initial_refuse` and `candidate`."""

    kind: Literal[StageKind.EVALUATE] = StageKind.EVALUATE
    task: Task
    candidate: str
    settings: EvaluationSettings
    prompts: PromptSettings
    seed: Seed


class PackageParameters(Contract):
    """Inputs `questions`, `tuned`, `rows`, `candidate` (the engine's replies with the adapter), `evaluation`."""

    kind: Literal[StageKind.PACKAGE] = StageKind.PACKAGE
    task: Task
    model: ModelRef
    trainer: TrainerRef = TrainerRef()
    strategy: Strategy
    prompts: PromptSettings
    max_new_tokens: int
    least_equal_share: Share = 0.9
    quantization: Quantization = Field(Quantization.NONE, description="That of the tuning.")
    findings: list[Finding] = Field(default_factory=list, description="Noticed when the job was accepted.")


class ReportParameters(Contract):
    """Inputs: every artifact of the job, by stage name. `job` is the resolved specification as shown to the user."""

    kind: Literal[StageKind.REPORT] = StageKind.REPORT
    job: dict[str, object]
    task: Task
    strategies: list[Strategy]
    seed: Seed
    findings: list[Finding] = Field(default_factory=list, description="Noticed when the job was accepted.")


StageParameters = Annotated[
    IngestParameters
    | ProbeParameters
    | ScoreParameters
    | RehearsalSetParameters
    | RehearseParameters
    | FlowParameters
    | TuningSetParameters
    | TuneParameters
    | AnswerParameters
    | EvaluateParameters
    | PackageParameters
    | ReportParameters,
    Field(discriminator="kind"),
]
PARAMETERS: TypeAdapter[StageParameters] = TypeAdapter(StageParameters)
