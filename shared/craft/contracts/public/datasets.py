"""Datasets in the public API: their views, their first rows with prompts, and the overlap of two datasets."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.findings import Finding
from craft.contracts.services.datasets import DatasetStatistics, Paths
from craft.contracts.spec.dataset_sources import FetchedSource
from craft.contracts.stages.rows import ChatMessage, QuestionRow
from craft.core.questions import Task


class DatasetLinks(Contract):
    """Paths on the API's host."""

    self: str
    preview: str


class DatasetView(Contract):
    """An accepted dataset. Unusable rows are refused with a `dataset_invalid` problem."""

    object: Literal["craft.dataset"] = "craft.dataset"
    id: str = Field(examples=["dset_01jgywz3x4v5q6r7s8t9vawbxc"])
    name: str | None
    task: Task
    rows: int
    digest: str
    statistics: DatasetStatistics
    columns: Paths = Field(description="The mapping of the file's columns.")
    findings: list[Finding] = Field(
        description="Warnings about the rows and about how they were read; accepted errors are among them."
    )
    source: FetchedSource | None = Field(description="The source from which it was fetched; null for an upload.")
    created_at: Moment
    links: DatasetLinks


class DatasetList(Contract):
    """Datasets, newest first; the next page is `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[DatasetView]
    has_more: bool
    last_id: str | None


class RenderedPrompts(Contract):
    """A question's prompts, rendered by one model's chat template, up to the start of the reply."""

    probe: str
    training: str


class PromptPreview(Contract):
    """The prompts for one row, with the default settings of a job."""

    id: str
    probe: list[ChatMessage] = Field(
        description="The prompt that probes the model's knowledge: examples, then the question."
    )
    training: list[ChatMessage] = Field(description="The prompt of training and evaluation.")
    answer: str = Field(description="The target if the model knows the answer.")
    refusal: str = Field(description="The target if the model does not know it.")
    rendered: RenderedPrompts | None = Field(None, description="Only with `base_model`.")


class DatasetPreview(Contract):
    """A dataset's first rows, as stored, with their prompts."""

    object: Literal["craft.dataset.preview"] = "craft.dataset.preview"
    dataset: str
    rows: list[QuestionRow]
    prompts: list[PromptPreview]


class OverlappingRow(Contract):
    """A row whose question is also in the other dataset."""

    row: int = Field(ge=1, description="The position in the stored dataset, from 1.")
    id: str
    question: str


class DatasetOverlap(Contract):
    """Rows of one dataset with questions of another; case, accents, articles and punctuation are ignored."""

    object: Literal["craft.dataset.overlap"] = "craft.dataset.overlap"
    dataset: str
    with_: str = Field(alias="with")
    rows: int = Field(description="Rows of `dataset`.")
    overlapping_rows: int = Field(description="Rows of `dataset` whose question is also in the other dataset.")
    overlapping_questions: int = Field(description="Different questions that are in both datasets.")
    data: list[OverlappingRow] = Field(description="The first 20 overlapping rows.")
