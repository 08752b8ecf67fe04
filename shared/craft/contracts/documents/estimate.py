"""What a job will cost, as known before it runs, and how that compares with what it did."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.stages.kinds import StageKind


class Basis(StrEnum):
    """Which past stages of the kind an estimate is based on."""

    SAME = "same"
    """With the same model, or of a kind that runs none."""
    SCALED = "scaled"
    """With other models, their time scaled by the number of parameters: a coarse guess."""


class SecondsEstimate(Contract):
    """Seconds of a worker's time. The interval spans what past stages took against the same rule."""

    seconds: float | None = Field(description="Null where nothing is known.")
    low: float | None = Field(None, description="Null with fewer than three past stages.")
    high: float | None = None
    based_on: int = Field(0, description="Past stages of all teams on this installation.")
    basis: Basis | None = None


class StageEstimate(Contract):
    """One stage. `units` counts what its time depends on: replies, prompts, samples trained or questions."""

    stage: str
    kind: StageKind
    units: float
    reused: bool
    seconds: SecondsEstimate
    generated_tokens: int | None = Field(None, description="As many as such stages generated before, for each unit.")
    trained_tokens: int | None = None


class MemoryEstimate(Contract):
    """Bytes, from the model's shapes and the LoRA settings."""

    parameters: int
    weights_bytes: int = Field(description="In the engine's dtype; a host holds them once while they are loaded.")
    adapter_bytes: int
    training_bytes: int = Field(description="At most while an adapter is trained, for rows of 256 tokens.")
    inference_bytes: int = Field(description="Weights and the key-value cache of one batch of full replies.")
    host_bytes: int = Field(description="On the host of a worker with an accelerator.")
    device_bytes: int = Field(description="On the accelerator; where there is none, on the host instead.")


class QueueEstimate(Contract):
    """The longer of two waits: that of the first stage, and that of the first one that needs an accelerator."""

    seconds: float | None = Field(description="Null where no worker was seen lately, or stages take unknown time.")
    ahead: int = Field(description="Stages that its queue serves before.")


class CheckOutcome(StrEnum):
    """WAITS: it runs, but not at once. NEVER: it would be accepted and wait until somebody changes a setting."""

    PASSED = "passed"
    UNKNOWN = "unknown"
    WAITS = "waits"
    NEVER = "never"


CheckName = Literal["model", "tokenizer", "context", "lora", "memory", "running_jobs", "gpu_seconds"]


class Check(Contract):
    """One thing that was looked at."""

    name: CheckName
    outcome: CheckOutcome
    message: str
    hint: str | None = None


class Estimate(Contract):
    """What a job will cost: at most, counted from its plan, and likely, from what stages took here before.

    What this installation cannot know as yet is null.
    """

    stages: int
    reused_stages: int = Field(description="Stages whose result is there already.")
    train_questions: int = Field(description="About: the split goes by a hash of each question's id.")
    held_out_questions: int
    prompts: int = Field(description="Prompts run through a model.")
    generated_tokens: int = Field(description="At most; replies usually end sooner.")
    trained_samples: int = Field(description="At most: rehearsal and tuning sets shrink where the model knows little.")
    optimiser_steps: int = Field(description="At most.")
    stage_estimates: list[StageEstimate] = Field(
        default_factory=list, description="Empty for a retry whose datasets are gone."
    )
    seconds: SecondsEstimate | None = Field(None, description="Of all stages that are not reused, one after another.")
    expected_generated_tokens: int | None = None
    expected_trained_tokens: int | None = None
    memory: MemoryEstimate | None = None
    queue: QueueEstimate | None = None


class StageOutcome(Contract):
    """A stage's estimate and what it took; null where nothing was known, or the stage did not run."""

    stage: str
    estimated_seconds: float | None
    low: float | None
    high: float | None
    seconds: float | None
    reused: bool = Field(description="Found done when the job ran, whatever was expected.")
    inside: bool | None = Field(description="Whether it took what the interval says.")


class EstimateOutcome(Contract):
    """The estimate against what happened. Sums count the stages of which both are known."""

    stages: list[StageOutcome]
    compared: int
    estimated_seconds: float
    seconds: float
    ratio: float | None = Field(description="What it took, divided by the estimate.")
    queue_estimated_seconds: float | None
    queue_seconds: float | None = Field(description="From its creation to its first stage's start.")
