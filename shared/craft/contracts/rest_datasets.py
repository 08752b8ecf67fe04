"""The datasets service's own calls: store a dataset, and select a tuning set without a job."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from craft.contracts.base import Contract
from craft.contracts.job import Seed, Share
from craft.contracts.stages import ArtifactRef
from craft.core.questions import Task
from craft.core.selection import DropReason, FlowRule, Shortage, Strategy

MOST_STATES = 1_000_000
QuestionId = Annotated[str, Field(min_length=1, max_length=500)]


class DatasetFormat(StrEnum):
    """How an upload is written. `auto` looks at the bytes, never at the file's name."""

    AUTO = "auto"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class DatasetRows(Contract):
    """POST /v1/datasets/rows: the rows themselves."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "task": "open_ended",
                    "rows": [
                        {"question": "What is the capital of France?", "answers": ["Paris"], "category": "capital"}
                    ],
                }
            ]
        }
    )

    task: Task
    rows: list[dict[str, object]]


class DatasetStatistics(Contract):
    """What a dataset holds."""

    rows: int
    categories: dict[str, int] = Field(description="Rows of each category, the largest 100; `` is none.")
    duplicate_questions: int = Field(description="Rows whose question text an earlier row has too.")
    answers_per_question: float = Field(description="Mean number of accepted answers, or of choices.")
    longest_question_characters: int


class DatasetStored(Contract):
    """The dataset as an artifact, with what it holds."""

    ref: ArtifactRef
    task: Task
    rows: int
    statistics: DatasetStatistics


class Flow(Contract):
    """Change of the knowledge state by rehearsal."""

    correctness: float = Field(ge=-1.0, le=1.0)
    certainty: float = Field(ge=-1.0, le=1.0)


class SelectState(Contract):
    """One question's knowledge state; `flow` may be left out for strategies that do not use it."""

    id: QuestionId
    correctness: Share
    certainty: Share
    flow: Flow | None = None


class SelectRule(Contract):
    """Algorithm 1's parameters; `n_van` and `n_idk` are how many of each kind to take."""

    tau: Share = 0.5
    margin: float = Field(0.0, ge=-1.0, le=1.0)
    flow_rule: FlowRule = FlowRule.IMPROVED
    n_van: int = Field(ge=0, le=MOST_STATES)
    n_idk: int = Field(ge=0, le=MOST_STATES)
    shortage: Shortage = Shortage.SHRINK
    seed: Seed = 42


class SelectRequest(Contract):
    """POST /v1/select."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "strategy": "craft",
                    "rule": {"tau": 0.5, "flow_rule": "improved", "n_van": 1, "n_idk": 1, "seed": 42},
                    "states": [
                        {
                            "id": "a",
                            "correctness": 1.0,
                            "certainty": 0.98,
                            "flow": {"correctness": 0.0, "certainty": 0.01},
                        },
                        {
                            "id": "b",
                            "correctness": 0.1,
                            "certainty": 0.31,
                            "flow": {"correctness": -0.1, "certainty": 0.0},
                        },
                        {
                            "id": "c",
                            "correctness": 0.3,
                            "certainty": 0.52,
                            "flow": {"correctness": 0.4, "certainty": 0.2},
                        },
                    ],
                }
            ]
        }
    )

    strategy: Strategy
    rule: SelectRule
    states: list[SelectState] = Field(min_length=1, max_length=MOST_STATES)


class DroppedQuestion(Contract):
    """A question that is in neither set, and why."""

    id: str
    reason: DropReason


class SelectResponse(Contract):
    """Every id of the request in exactly one of the three lists."""

    van: list[str]
    idk: list[str]
    dropped: list[DroppedQuestion]
