"""The datasets service's calls: store a dataset, and select a tuning set without a job."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from craft.contracts.base import Contract
from craft.contracts.findings import Accept, Finding
from craft.contracts.spec.dataset_sources import DatasetSource, FetchedSource
from craft.contracts.spec.jobs import PlainText, Seed, Share
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.validation import validation_message
from craft.core.questions import Task
from craft.core.rows.columns import ColumnMap
from craft.core.selection import DropReason
from craft.core.strategies import FlowRule, Shortage, Strategy
from craft.errors import RequestInvalid

MAX_STATES = 1_000_000
TEAM_HEADER = "Craft-Team"
"""The team for which a dataset is read; teams take turns."""
QuestionId = Annotated[str, Field(min_length=1, max_length=500)]


class DatasetFormat(StrEnum):
    """The format of an upload. `auto` looks at the bytes, never at the file's name."""

    AUTO = "auto"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


ColumnPath = Annotated[PlainText, Field(min_length=1, max_length=200)]
Paths = dict[
    Annotated[PlainText, Field(max_length=40)],
    ColumnPath | Annotated[list[ColumnPath], Field(min_length=1, max_length=26)],
]


def _checked(columns: Paths) -> Paths:
    try:
        ColumnMap(columns)
    except RequestInvalid as error:
        raise ValueError(f"{error.message} {error.hint}") from None
    return columns


Columns = Annotated[
    Paths,
    Field(max_length=6),
    AfterValidator(_checked),
    Field(
        description="For each of our names (question, answers, answer, choices, id, category, or messages for chats) "
        "the file's column, or a dotted path into it; for answers and choices also a list of several. Other columns "
        "keep their names.",
        examples=[{"question": "prompt", "choices": ["A", "B", "C", "D"]}],
    ),
]
_COLUMNS: TypeAdapter[Paths] = TypeAdapter(Columns)


def columns_of(text: str) -> Paths:
    """The columns of a form, which has them as JSON. Raises RequestInvalid."""
    try:
        return _COLUMNS.validate_json(text)
    except ValidationError as error:
        raise RequestInvalid(
            f"`columns` cannot be used: {validation_message(error.errors()[0])[:300]}",
            hint='It is a JSON object such as {"question": "prompt", "answers": "completion"}.',
            param="columns",
        ) from None


class Reading(Contract):
    """The settings for reading a file: task, format and columns, and the findings that are accepted."""

    task: Task | None = Field(None, description="Open-ended by default; required for rows with `choices`.")
    format: DatasetFormat = Field(DatasetFormat.AUTO, description="Only a hint, because the bytes decide.")
    columns: Columns = Field(default_factory=dict)
    answer_base: Literal[0, 1] | None = Field(
        None, description="The number of the first option's key. By default 0, or as the options' columns are numbered."
    )
    accept: Accept = Field(default_factory=list)

    @property
    def stored_task(self) -> Task:
        """The task of a dataset whose rows were all read without DatasetInvalid."""
        return self.task or Task.OPEN_ENDED

    @property
    def column_map(self) -> ColumnMap:
        """The columns as a map."""
        return ColumnMap(self.columns)


class FetchRequest(Contract):
    """POST /v1/datasets/source: a source to fetch, and how to read it."""

    source: DatasetSource
    reading: Reading = Reading()


class SpreadView(Contract):
    """The distribution of a number over the rows. Median and 95th percentile are real values (nearest rank)."""

    min: int
    median: int
    p95: int
    max: int


class DatasetStatistics(Contract):
    """Counts over the rows of a dataset."""

    rows: int
    categories: dict[str, int] = Field(
        description="Number of rows in each of the largest 100 categories; `` means without category."
    )
    category_count: int = Field(description="Number of different categories; rows without one count as a category.")
    duplicate_questions: int = Field(description="Rows with the question text of an earlier row.")
    duplicate_questions_normalised: int = Field(
        description="The same, without regard to case, accents, articles, punctuation and spaces."
    )
    answers_per_question: float = Field(description="Mean number of accepted answers or of choices.")
    longest_question_characters: int
    question_characters: SpreadView
    answer_characters: SpreadView = Field(
        description="Characters of the taught answer: the first one, or the right choice."
    )
    answers: SpreadView = Field(description="Accepted answers, or choices, per row.")


class DatasetStored(Contract):
    """The stored dataset: its artifact and statistics."""

    ref: ArtifactRef
    task: Task
    rows: int
    statistics: DatasetStatistics
    findings: list[Finding] = Field(default_factory=list)
    source: FetchedSource | None = Field(None, description="Only for a fetched dataset.")


class Flow(Contract):
    """The change of the knowledge state by rehearsal."""

    correctness: float = Field(ge=-1.0, le=1.0)
    certainty: float = Field(ge=-1.0, le=1.0)


class SelectState(Contract):
    """One question's knowledge state. `flow` is optional for strategies that do not use it."""

    id: QuestionId
    correctness: Share
    certainty: Share
    flow: Flow | None = None


class SelectRule(Contract):
    """The parameters of Algorithm 1. `n_van` and `n_idk` are the numbers of questions of each kind."""

    tau: Share = 0.5
    margin: float = Field(0.0, ge=-1.0, le=1.0)
    flow_rule: FlowRule = FlowRule.IMPROVED
    n_van: int = Field(ge=0, le=MAX_STATES)
    n_idk: int = Field(ge=0, le=MAX_STATES)
    shortage: Shortage = Shortage.SHRINK
    seed: Seed = 42


class SelectRequest(Contract):
    """POST /v1/select: knowledge states, and the rule of selection."""

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
    states: list[SelectState] = Field(min_length=1, max_length=MAX_STATES)


class DroppedQuestion(Contract):
    """A question in neither set, with the reason."""

    id: str
    reason: DropReason


class SelectResponse(Contract):
    """The selection. Each id of the request is in exactly one of the three lists."""

    van: list[str]
    idk: list[str]
    dropped: list[DroppedQuestion]
