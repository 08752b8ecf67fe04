"""What is in a dataset, as the API shows it: its first rows, the prompts that come of them, and what two share."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.rows import ChatMessage, QuestionRow


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
