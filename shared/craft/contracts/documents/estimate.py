"""The estimate of a job's cost before it runs, and its comparison with the real cost."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.stages.kinds import StageKind


class Basis(StrEnum):
    """The past stages of the same kind on which an estimate is based."""

    SAME = "same"
    """Stages with the same model, or of a kind that needs no model."""
    SCALED = "scaled"
    """Stages with other models, their time scaled by the number of parameters: a coarse estimate."""


class SecondsEstimate(Contract):
    """Seconds of a worker's time. The interval covers the deviations of past stages from the same duration model."""

    seconds: float | None = Field(description="Null if there are no past stages.")
    low: float | None = Field(None, description="Null with fewer than three past stages.")
    high: float | None = None
    based_on: int = Field(0, description="Number of past stages, of all teams on this installation.")
    basis: Basis | None = None


class StageEstimate(Contract):
    """The estimate of one stage. `units` counts what determines its time: replies, prompts, samples or questions."""

    stage: str
    kind: StageKind
    units: float
    reused: bool
    seconds: SecondsEstimate
    generated_tokens: int | None = Field(None, description="From the tokens that such stages generated for each unit.")
    trained_tokens: int | None = None


class MemoryEstimate(Contract):
    """Memory in bytes, from the model's shapes and the LoRA settings."""

    parameters: int
    weights_bytes: int = Field(description="In the engine's dtype; a host needs them once during loading.")
    adapter_bytes: int
    training_bytes: int = Field(
        description="Peak during the training of an adapter: of a batch of usual rows, or of the longest row."
    )
    inference_bytes: int = Field(description="Weights, and the key-value cache of one batch of full replies.")
    host_bytes: int = Field(description="On the host of a worker with an accelerator.")
    device_bytes: int = Field(description="On the accelerator; without one, on the host.")
    row_tokens: int = Field(
        0, description="Assumed tokens of the longest row with its prompt, from the datasets' characters."
    )
    measured_bytes: int | None = Field(
        None, description="The most that a past stage with this model took on its host here; null if none is known."
    )


class QueueEstimate(Contract):
    """The longer of two waits: for the first stage, and for the first stage that needs an accelerator."""

    seconds: float | None = Field(description="Null if no worker was seen lately, or durations are unknown.")
    ahead: int = Field(description="Stages that come first in its queue.")


class CheckOutcome(StrEnum):
    """A check's outcome. WAITS: the job runs later. NEVER: the job would wait until a setting is changed."""

    PASSED = "passed"
    UNKNOWN = "unknown"
    WAITS = "waits"
    NEVER = "never"


CheckName = Literal[
    "model", "tokenizer", "context", "rows", "lora", "memory", "running_jobs", "gpu_seconds", "gpu_seconds_of_job"
]


class Check(Contract):
    """One check of a job."""

    name: CheckName
    outcome: CheckOutcome
    message: str
    hint: str | None = None


class Estimate(Contract):
    """The cost of a job: maximum amounts from its plan, and likely values from past stages on this installation.

    Values that this installation does not know yet are null.
    """

    stages: int
    reused_stages: int = Field(description="Stages with an existing result.")
    train_questions: int = Field(description="Approximate, because a hash of each question decides the split.")
    held_out_questions: int
    prompts: int = Field(description="Prompts for a model.")
    generated_tokens: int = Field(description="Maximum; replies usually end earlier.")
    trained_samples: int = Field(description="Maximum; rehearsal and tuning sets shrink if the model knows little.")
    optimiser_steps: int = Field(description="Maximum.")
    stage_estimates: list[StageEstimate] = Field(
        default_factory=list, description="Empty for a retry whose datasets are gone."
    )
    seconds: SecondsEstimate | None = Field(None, description="Sum over all stages that are not reused.")
    expected_generated_tokens: int | None = None
    expected_trained_tokens: int | None = None
    memory: MemoryEstimate | None = None
    queue: QueueEstimate | None = None


class StageOutcome(Contract):
    """A stage's estimated and real time; null if it is unknown or the stage did not run."""

    stage: str
    estimated_seconds: float | None
    low: float | None
    high: float | None
    seconds: float | None
    reused: bool = Field(description="Whether the job reused a result, whatever the estimate said.")
    inside: bool | None = Field(description="Whether the real time is in the interval.")


class EstimateOutcome(Contract):
    """The estimate compared with reality. Sums include the stages for which both times are known."""

    stages: list[StageOutcome]
    compared: int
    estimated_seconds: float
    seconds: float
    ratio: float | None = Field(description="The real time divided by the estimate.")
    queue_estimated_seconds: float | None
    queue_seconds: float | None = Field(description="From the job's creation to the start of its first stage.")
