"""The scoring service's calls: judge, states, flow, evaluate."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from craft.contracts.base import NAME, Contract
from craft.contracts.documents.evaluation import MAX_CANDIDATES, CandidateMetrics, Id, ModelMetrics, Text
from craft.contracts.spec.jobs import Seed, Share
from craft.contracts.stages.rows import FlowRow, StateRow
from craft.core.judging.answers import Outcome
from craft.core.questions import Task

MAX_ROWS = 20_000
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
LogProbability = Annotated[float, Field(ge=-1e6, le=0.001)]
Letter = Annotated[str, Field(pattern=r"^[A-Z]$")]


# --- POST /v1/judge
class OpenReply(Contract):
    """A reply to an open-ended question, with the accepted answers."""

    id: Id
    reply: Text
    answers: list[Text] = Field(min_length=1, max_length=1000)
    language: Language | None = Field(None, description="Language of refusals; by default the request's.")


class ChoiceReply(Contract):
    """A reply to a multiple-choice question. `answer` is the right letter, its index from 0 or the option's text."""

    id: Id
    reply: Text
    choices: list[Text] = Field(min_length=2, max_length=26)
    answer: Text | Annotated[int, Field(ge=0, le=25)]
    language: Language | None = Field(None, description="Language of refusals; by default the request's.")


class OpenJudgeRequest(Contract):
    """Judge replies to open-ended questions."""

    task: Literal[Task.OPEN_ENDED]
    language: Language = "en"
    rows: list[OpenReply] = Field(min_length=1, max_length=MAX_ROWS)


class ChoiceJudgeRequest(Contract):
    """Judge replies to multiple-choice questions."""

    task: Literal[Task.MULTIPLE_CHOICE]
    language: Language = "en"
    rows: list[ChoiceReply] = Field(min_length=1, max_length=MAX_ROWS)


JudgeRequest = Annotated[OpenJudgeRequest | ChoiceJudgeRequest, Field(discriminator="task")]


class JudgedRow(Contract):
    """The outcome of a reply. `parsed` is the matching accepted answer, or the letter."""

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
    """Next-token log-probabilities (natural logarithm) of the letters A, B, …; null means a probability of 0."""

    id: Id
    logprobs: dict[Letter, LogProbability | None] = Field(min_length=2, max_length=26)
    answer: str = Field(pattern=r"^[A-Z]$", description="The right letter.")


class OpenStatesRequest(Contract):
    """Knowledge states of open-ended questions from sampled replies."""

    task: Literal[Task.OPEN_ENDED]
    language: Language = "en"
    rows: list[OpenSamples] = Field(min_length=1, max_length=MAX_ROWS)


class ChoiceStatesRequest(Contract):
    """Knowledge states of multiple-choice questions from letter log-probabilities."""

    task: Literal[Task.MULTIPLE_CHOICE]
    rows: list[ChoiceLogprobs] = Field(min_length=1, max_length=MAX_ROWS)


StatesRequest = Annotated[OpenStatesRequest | ChoiceStatesRequest, Field(discriminator="task")]


class StatesResponse(Contract):
    """One state for each row of the request, in its order; `letter_mass` for multiple choice only."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [{"id": "a", "correctness": 0.9, "certainty": 0.83}]}]}
    )

    rows: list[StateRow]


# --- POST /v1/flow
class KnownState(Contract):
    """A question's knowledge state. `letter_mass` is ignored; it is accepted because /v1/states returns it."""

    id: Id
    correctness: Share
    certainty: Share
    letter_mass: Annotated[float, Field(ge=0.0, le=100.0)] | None = None


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
    """The state after rehearsal minus the state before it, in the order of `before`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [{"id": "a", "correctness": 0.4, "certainty": 0.21}]}]}
    )

    rows: list[FlowRow]


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

    baseline: list[EvaluatedRow] = Field(min_length=1, max_length=MAX_ROWS)
    candidates: dict[Annotated[str, Field(pattern=NAME)], Annotated[list[EvaluatedRow], Field(max_length=MAX_ROWS)]] = (
        Field(min_length=1, max_length=MAX_CANDIDATES)
    )
    resamples: int = Field(2000, ge=100, le=10_000)
    seed: Seed = 42


class EvaluateResponse(Contract):
    """The metrics of the baseline and of each candidate."""

    baseline: ModelMetrics
    candidates: dict[str, CandidateMetrics]
