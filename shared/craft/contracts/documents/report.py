"""The report of a job, and the marker by which the gateway finds a reused stage in its page."""

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.documents.estimate import EstimateOutcome
from craft.contracts.documents.evaluation import Differences, ModelMetrics
from craft.contracts.stages.rows import FlowRow, StateRow
from craft.core.questions import Task


# --- report.json
class SetRole(StrEnum):
    """Where an evaluation set comes from."""

    HELD_OUT = "held_out"
    OUT_OF_DOMAIN = "out_of_domain"


class Comparison(Contract):
    """Model `model` minus model `against` on the same questions; `verdict` says it in words."""

    model: str
    against: str
    differences: Differences
    verdict: str


class ReportSet(Contract):
    """One evaluation set: `models` holds initial_basic, initial_refuse and then each strategy, in the job's order."""

    name: str
    role: SetRole
    questions: int
    models: dict[str, ModelMetrics]
    comparisons: list[Comparison]


class KnowledgeSummary(Contract):
    """What M0 knew of the training split, and what rehearsal changed (null where the job rehearsed nothing)."""

    questions: int
    mean_correctness: float
    mean_certainty: float
    never_right: int
    always_right: int
    mean_letter_mass: float | None = None
    rehearsed_mean_correctness: float | None = None
    improved: int | None = None
    worsened: int | None = None


class DroppedExample(Contract):
    """A question that a strategy left out of its tuning set."""

    id: str
    question: str
    reason: str
    state: StateRow
    flow: FlowRow | None = None


class SelectionSummary(Contract):
    """How many training questions a strategy used, how many it left out, and why."""

    van: int
    idk: int
    dropped: dict[str, int] = Field(description="Count by reason.")
    examples: list[DroppedExample]


class TrainingSummary(Contract):
    """One training run."""

    steps: int
    first_loss: float
    last_loss: float
    seconds: float


class StageCost(Contract):
    """What a stage cost when it was computed, and which strategies of the job share it.

    `reused` is null in the artifact, which is one for all jobs that ask the same; the gateway sets it for the job.
    """

    stage: str
    seconds: float
    prompt_tokens: int
    prefilled_tokens: int
    generated_tokens: int
    trained_tokens: int
    shared_by: list[str]
    reused: bool | None = None


class ReplyExample(Contract):
    """A question, what M0 said under BASIC, and what a strategy's model says."""

    kind: Literal["right", "refused", "over_refused", "wrong"]
    id: str
    question: str
    accepted: list[str]
    initial_reply: str
    reply: str


class ReportDocument(Contract):
    """`report.json`: the numbers of the HTML report."""

    task: Task
    strategies: list[str]
    job: dict[str, object] = Field(description="The resolved specification.")
    sets: list[ReportSet]
    knowledge: KnowledgeSummary
    selection: dict[str, SelectionSummary]
    training: dict[str, TrainingSummary] = Field(description="By stage name.")
    cost: list[StageCost]
    examples: dict[str, list[ReplyExample]] = Field(description="By strategy, from the held-out set.")
    notes: list[str] = Field(description="What stages had to say, such as relaxed thresholds.")
    versions: dict[str, str]
    estimate: EstimateOutcome | None = Field(
        None, description="Null in the artifact, which the job's last stage writes; the gateway sets it for the job."
    )


_MARK = re.compile(rb"<!--reuse ([a-z0-9:_-]+)-->")


def reuse_mark(stage: str) -> str:
    """What stands in a stage's row of the HTML report: nothing that a browser shows."""
    return f"<!--reuse {stage}-->"
