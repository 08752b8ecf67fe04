"""The report of a job, and the marker with which the gateway finds a stage's row in the HTML page."""

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.documents.estimate import EstimateOutcome
from craft.contracts.documents.evaluation import Differences, ModelMetrics
from craft.contracts.findings import Finding
from craft.contracts.stages.rows import FlowRow, StateRow
from craft.core.questions import Task


# --- report.json
class SetRole(StrEnum):
    """The origin of an evaluation set."""

    HELD_OUT = "held_out"
    OUT_OF_DOMAIN = "out_of_domain"


class Comparison(Contract):
    """Model `model` minus model `against` on the same questions; `verdict` is the result in words."""

    model: str
    against: str
    differences: Differences
    verdict: str


class ReportSet(Contract):
    """One evaluation set. `models` has initial_basic, initial_refuse and then each strategy, in the job's order."""

    name: str
    role: SetRole
    questions: int
    models: dict[str, ModelMetrics]
    comparisons: list[Comparison]


class KnowledgeSummary(Contract):
    """M0's knowledge of the training split, and its change by rehearsal (null if the job has no rehearsal)."""

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
    """A question that is not in a strategy's tuning set."""

    id: str
    question: str
    reason: str
    state: StateRow
    flow: FlowRow | None = None


class SelectionSummary(Contract):
    """The numbers of training questions that a strategy used and dropped, with the reasons."""

    van: int
    idk: int
    dropped: dict[str, int] = Field(description="Number by reason.")
    examples: list[DroppedExample]


class TrainingSummary(Contract):
    """One training run."""

    steps: int
    first_loss: float
    last_loss: float
    seconds: float


class StageCost(Contract):
    """The cost of a stage when it was computed, and the strategies of the job that share it.

    `reused` is null in the artifact, because equal jobs share it; the gateway sets it for each job.
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
    """A question with the replies of M0 under BASIC and of a strategy's model."""

    kind: Literal["right", "refused", "over_refused", "wrong"]
    id: str
    question: str
    accepted: list[str]
    initial_reply: str
    reply: str


class ReportFinding(Finding):
    """A finding with its source: `job` for what was noticed when the job was accepted, else a stage's name."""

    source: str


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
    findings: list[ReportFinding] = Field(
        default_factory=list, description="What to know before the numbers are trusted; accepted errors first."
    )
    notes: list[str] = Field(description="Notes of stages, such as relaxed thresholds.")
    versions: dict[str, str]
    estimate: EstimateOutcome | None = Field(
        None,
        description="Null in the artifact, because the job's last stage writes it; the gateway sets it for the job.",
    )


REUSE_MARK = re.compile(rb"<!--reuse ([a-z0-9:._-]+)-->")


def reuse_mark(stage: str) -> str:
    """The marker of a stage's row in the HTML report; browsers do not show it."""
    return f"<!--reuse {stage}-->"
