"""What is in a dataset, as the API shows it: its first rows, the prompts that come of them, and what two share."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.services.datasets import DatasetStatistics
from craft.contracts.spec.dataset_sources import FetchedSource
from craft.contracts.stages.rows import ChatMessage, QuestionRow
from craft.core.questions import Task


class DatasetLinks(Contract):
    """Paths below the API's host."""

    self: str
    preview: str


class DatasetView(Contract):
    """An accepted dataset. Rows that cannot be used are answered as a `dataset_invalid` problem instead."""

    object: Literal["craft.dataset"] = "craft.dataset"
    id: str = Field(examples=["dset_01jgywz3x4v5q6r7s8t9vawbxc"])
    name: str | None
    task: Task
    rows: int
    digest: str
    statistics: DatasetStatistics
    columns: dict[str, str] = Field(description="How the file's columns were mapped.")
    source: FetchedSource | None = Field(description="Where it was fetched from; null for an upload.")
    created_at: Moment
    links: DatasetLinks


class DatasetList(Contract):
    """Datasets, newest first; the next page is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[DatasetView]
    has_more: bool
    last_id: str | None


class RenderedPrompts(Contract):
    """A question's prompts as one model's chat template writes them, up to where its reply begins."""

    probe: str
    training: str


class PromptPreview(Contract):
    """What a model is asked about one row, by the defaults of a job."""

    id: str
    probe: list[ChatMessage] = Field(description="What the model knows is asked so: examples first, then the question.")
    training: list[ChatMessage] = Field(description="What it is tuned, and examined, with.")
    answer: str = Field(description="What it is taught to reply where it knows the answer.")
    refusal: str = Field(description="What it is taught to reply where it does not.")
    rendered: RenderedPrompts | None = Field(None, description="With `base_model` only.")


class DatasetPreview(Contract):
    """A dataset's first rows as they are stored, and their prompts."""

    object: Literal["craft.dataset.preview"] = "craft.dataset.preview"
    dataset: str
    rows: list[QuestionRow]
    prompts: list[PromptPreview]


class OverlappingRow(Contract):
    """A row whose question the other dataset asks as well."""

    row: int = Field(ge=1, description="Its position in the stored dataset, from 1.")
    id: str
    question: str


class DatasetOverlap(Contract):
    """Rows of one dataset whose questions another has too; case, accents, articles and punctuation do not count."""

    object: Literal["craft.dataset.overlap"] = "craft.dataset.overlap"
    dataset: str
    with_: str = Field(alias="with")
    rows: int = Field(description="Of `dataset`.")
    overlapping_rows: int = Field(description="Those of them that ask what a row of the other asks.")
    overlapping_questions: int = Field(description="Different questions that both ask.")
    data: list[OverlappingRow] = Field(description="The first 20.")
