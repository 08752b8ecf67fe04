"""The request and the result of an inspection of rows, as they pass between the two processes."""

from pathlib import Path

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import JobSpec

MAX_LONG_ROWS = 2000


class InspectedSet(Contract):
    """One set of questions. `name` is `held_out` for the job's own dataset; `folder` is the dataset's artifact."""

    name: str
    folder: Path
    own: bool


class InspectionRequest(Contract):
    """The sets of a job, the model's folder, and its context as it is served here. `template` is the default one."""

    spec: JobSpec
    sets: list[InspectedSet]
    tokenizer: Path | None = Field(description="tokenizer.json, where the model has one.")
    template: str
    variables: dict[str, bool | int | float | str] = Field(
        description="What the template can use by name: the special tokens of the model's files, and its arguments."
    )
    after_reply: str = Field("", description="The text that the template writes after a reply.")
    context_length: int
    seconds: float = Field(description="Of processor time, for reading rows and counting tokens.")

    @property
    def tokens(self) -> list[str]:
        """The special tokens that the model's files name."""
        return [value for name, value in self.variables.items() if name.endswith("_token") and isinstance(value, str)]


class LongRow(Contract):
    """A row with too many tokens. `limit` may not be exceeded; `setting` is the setting that it comes from.

    `trained` rows exceed it on the training side of the split only, others on the evaluated side.
    """

    set: str
    line: int
    question: str
    identity: int
    tokens: int
    limit: int
    setting: str
    trained: bool


class MarkedRow(Contract):
    """A row with a special token of the model in one of its texts."""

    set: str
    line: int
    field: str
    token: str
    excerpt: str


class RefusingRow(Contract):
    """A row whose answer is a refusal of the job's. `only`: it has no other answer."""

    set: str
    line: int
    answer: str
    only: bool


class EndToken(Contract):
    """The token with which the template ends a reply; `id` is None if the tokenizer does not know it."""

    text: str
    id: int | None


class KnownShot(Contract):
    """A few-shot example whose question is also a row of the job's own dataset."""

    line: int
    question: str
    identity: int


class Inspection(Contract):
    """The result. `unread` says why tokens could not be counted; `complete` is false where time ran out.

    `marked` and `refusing` have the first rows; their numbers are by set.
    """

    unread: str | None = None
    complete: bool = True
    rows: dict[str, int] = Field(default_factory=dict)
    long: list[LongRow] = Field(default_factory=list)
    marked: list[MarkedRow] = Field(default_factory=list)
    marked_rows: dict[str, int] = Field(default_factory=dict)
    refusing: list[RefusingRow] = Field(default_factory=list)
    refusing_rows: dict[str, int] = Field(default_factory=dict)
    shots: list[KnownShot] = Field(default_factory=list)
    highest_id: int | None = Field(None, description="The tokenizer's highest token id.")
    end: EndToken | None = Field(None, description="None where the tokenizer could not be read, or names no end.")
    letter: str | None = Field(None, description="A letter that is not one token behind the reply's header.")
    header: str = Field("", description="What the template writes before a reply; of interest with `letter`.")
