"""The scoring service: its own calls (judge, states, flow, evaluate), `evaluation.json` and `report.json`.

One file although longer than most: the calls answer with the same metric models that the two documents store.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from craft.contracts.base import NAME, Contract
from craft.contracts.estimates import EstimateOutcome
from craft.contracts.job import Seed, Share
from craft.contracts.rows import FlowRow, StateRow
from craft.core.answers import Outcome
from craft.core.questions import Task

MOST_ROWS = 20_000
MOST_CANDIDATES = 20
HELD_OUT = "held_out"
"""The evaluation set that the job's own dataset gives; further sets have the names that the job gave them."""
INITIAL_BASIC = "initial_basic"
INITIAL_REFUSE = "initial_refuse"

Id = Annotated[str, Field(min_length=1, max_length=500)]
Text = Annotated[str, Field(max_length=20_000)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
LogProbability = Annotated[float, Field(le=0.001, allow_inf_nan=False)]


# --- POST /v1/judge


class OpenReply(Contract):
    """A reply to an open-ended question and the answers that are accepted."""

    id: Id
    reply: Text
    answers: list[Text] = Field(min_length=1, max_length=1000)
    language: Language | None = Field(None, description="Of the refusal wording; by default the request's.")


class ChoiceReply(Contract):
    """A reply to a multiple-choice question; `answer` is the right letter, its index from 0, or the option's text."""

    id: Id
    reply: Text
    choices: list[Text] = Field(min_length=2, max_length=26)
    answer: str | int
    language: Language | None = Field(None, description="Of the refusal wording; by default the request's.")


class OpenJudgeRequest(Contract):
    """Judge replies to open-ended questions."""

    task: Literal[Task.OPEN_ENDED]
    language: Language = "en"
    rows: list[OpenReply] = Field(min_length=1, max_length=MOST_ROWS)


class ChoiceJudgeRequest(Contract):
    """Judge replies to multiple-choice questions."""

    task: Literal[Task.MULTIPLE_CHOICE]
    language: Language = "en"
    rows: list[ChoiceReply] = Field(min_length=1, max_length=MOST_ROWS)


JudgeRequest = Annotated[OpenJudgeRequest | ChoiceJudgeRequest, Field(discriminator="task")]


class JudgedRow(Contract):
    """What a reply is, and what was read from it: the accepted answer that matched, or the letter."""

    id: str
    outcome: Outcome
    parsed: str | None


class JudgeResponse(Contract):
    """One row for each row of the request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [{"id": "a", "outcome": "right", "parsed": "Paris"}]}]}
    )

    rows: list[JudgedRow]


# --- POST /v1/states


class OpenSamples(Contract):
    """Replies sampled for one open-ended question."""

    id: Id
    samples: list[Text] = Field(min_length=1, max_length=100)
    answers: list[Text] = Field(min_length=1, max_length=1000)


class ChoiceLogprobs(Contract):
    """Next-token log-probabilities (natural logarithm) of the offered letters A, B, …; null means probability 0."""

    id: Id
    logprobs: dict[str, LogProbability | None] = Field(min_length=2, max_length=26)
    answer: str = Field(pattern=r"^[A-Z]$", description="The right letter.")


class OpenStatesRequest(Contract):
    """Knowledge states of open-ended questions from sampled replies."""

    task: Literal[Task.OPEN_ENDED]
    language: Language = "en"
    rows: list[OpenSamples] = Field(min_length=1, max_length=MOST_ROWS)


class ChoiceStatesRequest(Contract):
    """Knowledge states of multiple-choice questions from letter log-probabilities."""

    task: Literal[Task.MULTIPLE_CHOICE]
    rows: list[ChoiceLogprobs] = Field(min_length=1, max_length=MOST_ROWS)


StatesRequest = Annotated[OpenStatesRequest | ChoiceStatesRequest, Field(discriminator="task")]


class StatesResponse(Contract):
    """One state for each row of the request, in its order; `letter_mass` for multiple choice only."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [{"id": "a", "correctness": 0.9, "certainty": 0.83}]}]}
    )

    rows: list[StateRow]


# --- POST /v1/flow


class KnownState(Contract):
    """A question's knowledge state; `letter_mass` is taken and ignored, so that the answer of /v1/states fits."""

    id: Id
    correctness: Share
    certainty: Share
    letter_mass: float | None = None


class FlowRequest(Contract):
    """Two lists of states over the same questions, in any order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "before": [{"id": "a", "correctness": 0.2, "certainty": 0.31}],
                    "after": [{"id": "a", "correctness": 0.6, "certainty": 0.52}],
                }
            ]
        }
    )

    before: list[KnownState] = Field(min_length=1, max_length=1_000_000)
    after: list[KnownState] = Field(min_length=1, max_length=1_000_000)


class FlowResponse(Contract):
    """State after minus state before, in the order of `before`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [{"id": "a", "correctness": 0.4, "certainty": 0.21}]}]}
    )

    rows: list[FlowRow]


# --- metrics


class EstimateView(Contract):
    """A value with its bootstrap 95 % interval; where it is undefined, null and the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class MetricSet(Contract):
    """Every metric of method.md as a share of questions (THS lies in [-Pc0/Pw0, 1])."""

    pc: EstimateView = Field(description="Answered right.")
    pw: EstimateView = Field(description="Answered wrong.")
    pr: EstimateView = Field(description="Refused.")
    pu: EstimateView = Field(description="Unparsed.")
    ths: EstimateView = Field(description="Truthful helpfulness score: Pc - Pw * Pc0/Pw0.")
    over_refusal: EstimateView = Field(description="Refused, among questions that the baseline answers right.")
    selective_accuracy: EstimateView = Field(description="Pc / (Pc + Pw).")
    coverage: EstimateView = Field(description="Share of questions that got an answer.")
    abstain_precision: EstimateView = Field(description="Baseline not right, among the refused.")
    abstain_recall: EstimateView = Field(
        description="Refused, among questions that the baseline does not answer right."
    )
    abstain_f1: EstimateView


class CategoryRates(Contract):
    """Outcome shares in one category; they sum to 1."""

    count: int
    right: float
    wrong: float
    refused: float
    unparsed: float


class ModelMetrics(Contract):
    """One model on one evaluation set. Micro weighs questions alike, macro categories alike."""

    count: int
    micro: MetricSet
    macro: MetricSet
    categories: dict[str, CategoryRates] = Field(
        description="By category; `uncategorised` holds the questions that have none."
    )


class Differences(Contract):
    """One model minus another, over the same resampled questions (paired bootstrap)."""

    ths: EstimateView
    over_refusal: EstimateView
    pc: EstimateView
    pw: EstimateView
    pr: EstimateView
    selective_accuracy: EstimateView


# --- POST /v1/evaluate


class EvaluatedRow(Contract):
    """The judged reply to one question."""

    id: Id
    outcome: Outcome
    category: Annotated[str, Field(max_length=500)] | None = None


class EvaluateRequest(Contract):
    """Judged replies of a baseline (M0 under BASIC) and of candidates, all over the same questions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "baseline": [{"id": "a", "outcome": "right"}, {"id": "b", "outcome": "wrong"}],
                    "candidates": {"craft": [{"id": "a", "outcome": "right"}, {"id": "b", "outcome": "refused"}]},
                    "resamples": 1000,
                }
            ]
        }
    )

    baseline: list[EvaluatedRow] = Field(min_length=1, max_length=MOST_ROWS)
    candidates: dict[Annotated[str, Field(pattern=NAME)], list[EvaluatedRow]] = Field(
        min_length=1, max_length=MOST_CANDIDATES
    )
    resamples: int = Field(2000, ge=100, le=10_000)
    seed: Seed = 42


class CandidateMetrics(Contract):
    """A candidate's metrics and its paired differences to the baseline."""

    metrics: ModelMetrics
    versus_baseline: Differences


class EvaluateResponse(Contract):
    """The baseline's metrics, and each candidate's."""

    baseline: ModelMetrics
    candidates: dict[str, CandidateMetrics]


# --- evaluation.json


class EvaluatedSet(Contract):
    """A candidate and both baselines on one evaluation set."""

    initial_basic: ModelMetrics
    initial_refuse: ModelMetrics
    candidate: ModelMetrics
    versus_initial_basic: Differences
    versus_initial_refuse: Differences


class EvaluationDocument(Contract):
    """`evaluation.json`, by evaluation set: `held_out` first, then each further set by its name."""

    task: Task
    candidate: str = Field(description="The strategy's name.")
    resamples: int
    seed: Seed
    sets: dict[str, EvaluatedSet]


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
