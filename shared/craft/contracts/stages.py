"""What crosses between the coordinator and a worker: parameters, claims, results, manifests, and a stage's key."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import Field, TypeAdapter

from craft.contracts.base import Contract, Digest
from craft.contracts.job import (
    EvaluationSettings,
    ProbeSettings,
    PromptSettings,
    Seed,
    SelectionSettings,
    Share,
    TrainingSettings,
)
from craft.contracts.problems import StageError
from craft.core.prompts import PromptMode
from craft.core.questions import Task
from craft.core.selection import Shortage, Strategy


class Service(StrEnum):
    """A service with workers; its Celery queue has the same name."""

    DATASETS = "datasets"
    INFERENCE = "inference"
    SCORING = "scoring"
    TRAINING = "training"


class StageKind(StrEnum):
    """What a stage computes. A stage's name is its kind, or `kind:which`."""

    INGEST = "ingest"
    PROBE = "probe"
    SCORE = "score"
    REHEARSAL_SET = "rehearsal_set"
    REHEARSE = "rehearse"
    FLOW = "flow"
    TUNING_SET = "tuning_set"
    TUNE = "tune"
    ANSWER = "answer"
    EVALUATE = "evaluate"
    PACKAGE = "package"
    REPORT = "report"


SERVICE_OF: Mapping[StageKind, Service] = {
    StageKind.INGEST: Service.DATASETS,
    StageKind.PROBE: Service.INFERENCE,
    StageKind.SCORE: Service.SCORING,
    StageKind.REHEARSAL_SET: Service.DATASETS,
    StageKind.REHEARSE: Service.TRAINING,
    StageKind.FLOW: Service.SCORING,
    StageKind.TUNING_SET: Service.DATASETS,
    StageKind.TUNE: Service.TRAINING,
    StageKind.ANSWER: Service.INFERENCE,
    StageKind.EVALUATE: Service.SCORING,
    StageKind.PACKAGE: Service.TRAINING,
    StageKind.REPORT: Service.SCORING,
}

CODE_VERSION: Mapping[StageKind, int] = {
    **dict.fromkeys(StageKind, 1),
    StageKind.REPORT: 2,  # `report.json` has a place for the estimate since.
    StageKind.PACKAGE: 2,  # The card holds the prompt's text since.
    # In bfloat16 a reply's roundings depend on what else is in the call, and so on how shards are cut.
    StageKind.PROBE: 2,
    StageKind.ANSWER: 3,
}
"""Raise a kind's number when its output changes for the same input: old artifacts are then not reused."""


class ModelRef(Contract):
    """A base model as resolved when the job was accepted. `digest` is over its files: changed files are another."""

    id: str
    revision: str
    digest: Digest


class EngineRef(Contract):
    """The engine and those of its settings that change results."""

    name: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    questions_per_batch: int = Field(32, ge=1, description="The batch changes roundings, and so draws.")
    questions_per_shard: int = Field(
        256, ge=1, description="Questions between two checkpoints of a stage, at most; as above."
    )


class TrainerRef(Contract):
    """Those of the training service's settings that change results."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"


class IngestParameters(Contract):
    """Input `dataset`. Split a dataset; `held_out_fraction` 1 puts every question into the held-out file."""

    kind: Literal[StageKind.INGEST] = StageKind.INGEST
    task: Task
    held_out_fraction: Share
    seed: Seed


class ProbeParameters(Contract):
    """Inputs `questions` (an ingest artifact) and, for the rehearsed model, `adapter`."""

    kind: Literal[StageKind.PROBE] = StageKind.PROBE
    task: Task
    model: ModelRef
    engine: EngineRef
    probe: ProbeSettings
    prompts: PromptSettings
    seed: Seed


class ScoreParameters(Contract):
    """Inputs `questions`, `probe`."""

    kind: Literal[StageKind.SCORE] = StageKind.SCORE
    task: Task
    embedder: str
    prompts: PromptSettings


class RehearsalSetParameters(Contract):
    """Inputs `questions`, `probe`, `states`. `size` None means min(1000, 10 %)."""

    kind: Literal[StageKind.REHEARSAL_SET] = StageKind.REHEARSAL_SET
    task: Task
    size: int | None
    threshold: Share
    relax_steps: list[Share]
    shortage: Shortage
    prompts: PromptSettings


class RehearseParameters(Contract):
    """Input `rows`, a training set."""

    kind: Literal[StageKind.REHEARSE] = StageKind.REHEARSE
    model: ModelRef
    trainer: TrainerRef = TrainerRef()
    training: TrainingSettings
    seed: Seed


class FlowParameters(Contract):
    """Inputs `before`, `after`, two state artifacts over the same questions."""

    kind: Literal[StageKind.FLOW] = StageKind.FLOW


class TuningSetParameters(Contract):
    """Inputs `questions`, `states`; `flow` where the job has it; `probe` where targets are the model's own answers.

    `compared_with` lists the job's strategies: sets shrink together, so that all are of one size.
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
    """Inputs `questions` (the held-out set), `questions:<name>` (further sets) and, for a tuned model, `adapter`."""

    kind: Literal[StageKind.ANSWER] = StageKind.ANSWER
    task: Task
    model: ModelRef
    engine: EngineRef
    mode: PromptMode
    max_new_tokens: int
    prompts: PromptSettings


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


class ReportParameters(Contract):
    """Inputs: every artifact of the job, by stage name. `job` is the resolved specification as shown to the user."""

    kind: Literal[StageKind.REPORT] = StageKind.REPORT
    job: dict[str, object]
    task: Task
    strategies: list[Strategy]
    seed: Seed


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


class ArtifactRef(Contract):
    """An immutable artifact: `key` names what was computed, `digest` the bytes that came out."""

    key: Digest
    digest: Digest


class Cost(Contract):
    """What a stage used. Reused stages cost nothing; their artifact keeps what it cost once."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    prefilled_tokens: int = Field(0, description="Prompt tokens run through the model; shared prefixes count once.")
    generated_tokens: int = 0
    trained_tokens: int = 0


class StageResult(Contract):
    """What a stage function returns beside the files it wrote."""

    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    cost: Cost = Field(default_factory=Cost)
    notes: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)


class ManifestFile(Contract):
    """One file of an artifact; `path` is relative with forward slashes."""

    path: str
    bytes: int
    sha256: Digest


class Manifest(Contract):
    """`manifest.json` of an artifact. Its digest covers the files, not times and costs."""

    key: Digest
    digest: Digest
    kind: StageKind | Literal["dataset"]
    code_version: int
    parameters: dict[str, object]
    inputs: dict[str, ArtifactRef]
    files: list[ManifestFile]
    result: StageResult

    @property
    def ref(self) -> ArtifactRef:
        """How others point at it."""
        return ArtifactRef(key=self.key, digest=self.digest)


class Claim(Contract):
    """POST /internal/stages/{id}/claim: who wants to do the stage. `owner` names one process, not one host."""

    owner: str = Field(min_length=1, max_length=200)
    service: Service
    device: str | None = Field(
        None, max_length=100, description="The processor that the stage will hold alone, where workers take turns."
    )


class ClaimedStage(Contract):
    """The stage is the caller's until the lease runs out; every later call carries the fence."""

    stage_id: str
    job_id: str
    name: str
    attempt: int
    fence: int
    key: Digest
    parameters: StageParameters
    inputs: dict[str, ArtifactRef]
    lease_seconds: float
    beat_seconds: float
    timeout_seconds: float
    team: str = "default"
    waited_seconds: float = Field(0.0, description="How long the stage had been ready.")
    traceparent: str | None = Field(None, description="The W3C trace context of the request that made the job.")


class StageProgress(Contract):
    """How far a stage is; `metrics` holds the latest values, such as loss."""

    done: int = Field(0, ge=0)
    total: int = Field(0, ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)


class Renew(Contract):
    """POST /internal/stages/{id}/renew: still at it. Answers 409 lease_lost where the fence is old."""

    fence: int
    progress: StageProgress | None = None
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Renewed(Contract):
    """`stop` asks the worker to end the child and report `released`."""

    stop: bool = False


class Complete(Contract):
    """POST /internal/stages/{id}/complete: the artifact is published and whole."""

    fence: int
    manifest: Manifest
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Fail(Contract):
    """POST /internal/stages/{id}/fail: the attempt failed."""

    fence: int
    error: StageError
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


class Release(Contract):
    """POST /internal/stages/{id}/release: not done and no fault: the worker shuts down, or was asked to stop."""

    fence: int
    log_lines: list[str] = Field(default_factory=list, max_length=1000)


def canonical_json(value: object) -> bytes:
    """One byte string for one value: sorted keys, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def stage_key(parameters: StageParameters, inputs: Mapping[str, ArtifactRef]) -> str:
    """SHA-256 (hex) that names what a stage computes: kind, code version, parameters and the inputs' digests."""
    return hashlib.sha256(
        canonical_json(
            {
                "kind": parameters.kind.value,
                "code_version": CODE_VERSION[parameters.kind],
                "parameters": parameters.model_dump(mode="json"),
                "inputs": {role: ref.digest for role, ref in inputs.items()},
            }
        )
    ).hexdigest()


def artifact_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) of an artifact's content: each file's path and SHA-256, whatever their order.

    The key is no part of it: a stage that computes the same bytes in another way leaves later stages' keys alone.
    """
    return hashlib.sha256(canonical_json({"files": dict(files)})).hexdigest()
