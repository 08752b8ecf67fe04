"""The rows of artifacts, one model for each JSONL file, and the files' paths in their artifacts."""

from enum import StrEnum

from pydantic import Field

from craft.contracts.base import Contract
from craft.core.judging.answers import Outcome
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.replies.reply import AskedQuestion, FinishReason, finishes_or_stops
from craft.core.rows.fields import excerpt
from craft.core.selection import DropReason

QUESTIONS_FILE = "questions.jsonl"
"""In a dataset artifact: every valid row of an upload."""
QUESTION_HASHES_FILE = "question_marks.u64"
"""In a dataset artifact: each row's question hash (`core.rows.question_hashes`), in row order, little-endian."""
QUESTION_HASH_BYTES = 8
TRAIN_FILE = "train.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
SAMPLES_FILE = "samples.jsonl"
STATES_FILE = "states.jsonl"
FLOW_FILE = "flow.jsonl"
TRAINING_FILE = "training.jsonl"
DECISIONS_FILE = "decisions.jsonl"
CURVE_FILE = "curve.jsonl"
REPLIES_FILE = "replies.jsonl"
OUTCOMES_FILE = "outcomes.jsonl"
EVALUATION_FILE = "evaluation.json"
ADAPTER_FOLDER = "adapter"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CHAT = "chat_format.json"
"""The form of chats with which an adapter was trained and evaluated, for the server that serves it."""
ADAPTER_ARCHIVE = "adapter.tar.gz"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_NAME_LENGTH = 80


def row_name(text: str, row_id: str, line: int | None) -> str:
    """A row in an error's words: its line, the beginning of its text, and its id."""
    shown = excerpt(text)
    shown = shown if len(shown) <= _NAME_LENGTH else shown[: _NAME_LENGTH - 1] + "…"
    return f"{f'line {line}, ' if line else ''}\u201c{shown}\u201d (id {row_id})"


class QuestionRow(Contract):
    """A question: `answers` for the open-ended task, `choices` and `answer` (an index) for multiple choice."""

    id: str
    question: str
    answers: list[str] | None = None
    choices: list[str] | None = None
    answer: int | None = None
    category: str | None = None
    line: int | None = Field(None, description="In a split: the row's line in the dataset, from 1.")

    @property
    def name(self) -> str:
        """The row as its owner knows it: its line in the dataset, its question and its id."""
        return row_name(self.question, self.id, self.line)

    @classmethod
    def of(cls, question: Question) -> "QuestionRow":
        """The row for a question of the core."""
        if isinstance(question, OpenQuestion):
            return cls(
                id=question.id,
                question=question.question,
                answers=list(question.answers),
                category=question.category,
            )
        return cls(
            id=question.id,
            question=question.question,
            choices=list(question.choices),
            answer=question.answer,
            category=question.category,
        )

    def to_question(self) -> Question:
        """The core's question. Rows are made by `of`, so one of the two forms is complete."""
        if self.choices is not None and self.answer is not None:
            return ChoiceQuestion(
                id=self.id,
                question=self.question,
                choices=tuple(self.choices),
                answer=self.answer,
                category=self.category,
            )
        return OpenQuestion(
            id=self.id, question=self.question, answers=tuple(self.answers or ()), category=self.category
        )

    @property
    def task(self) -> Task:
        """The task of the question."""
        return Task.MULTIPLE_CHOICE if self.choices is not None else Task.OPEN_ENDED


class ProbeRow(Contract):
    """A model's replies to a probe: N sampled replies, or the letters' log-probabilities in letter order.

    A null log-probability means a probability of 0. `finishes` has a reason for each sample.
    """

    id: str
    samples: list[str] | None = None
    finishes: list[FinishReason] | None = None
    logprobs: list[float | None] | None = None

    def asked(self, question: Question) -> AskedQuestion:
        """The samples with their question."""
        replies = tuple(self.samples or ())
        return AskedQuestion(question, replies, finishes_or_stops(self.finishes, len(replies)))


class StateRow(Contract):
    """A question's knowledge state under one model; correctness and certainty are in [0, 1]."""

    id: str
    correctness: float
    certainty: float
    letter_mass: float | None = None


class FlowRow(Contract):
    """Knowledge flow: the state under the rehearsed model minus the state under the initial one."""

    id: str
    correctness: float
    certainty: float


class ChatMessage(Contract):
    """One message of a chat."""

    role: str
    content: str


class TrainingKind(StrEnum):
    """The reason why a row is in a training set."""

    REHEARSE = "rehearse"
    VAN = "van"
    IDK = "idk"


class TrainingRow(Contract):
    """One supervised example: the prompt's messages and the target text. The loss covers only the target."""

    id: str
    kind: TrainingKind
    line: int | None = Field(None, description="The question's line in the dataset, from 1.")
    messages: list[ChatMessage]
    target: str

    @property
    def name(self) -> str:
        """The row as its owner knows it: its line in the dataset, the end of its prompt, and its id."""
        return row_name(self.messages[-1].content[-_NAME_LENGTH:], self.id, self.line)


class Decision(StrEnum):
    """Selection's decision about a question."""

    VAN = "van"
    IDK = "idk"
    DROPPED = "dropped"


class DecisionRow(Contract):
    """Selection's decision about one question, with a reason if it was dropped."""

    id: str
    decision: Decision
    reason: DropReason | None = None


class CurveRow(Contract):
    """One optimiser step of training."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None = None
    seconds: float = Field(description="Time since the start of training, over all attempts.")


class ReplyRow(Contract):
    """A greedy reply to a question of the evaluation set `set`."""

    set: str
    id: str
    reply: str
    finish: FinishReason = FinishReason.STOP

    def asked(self, question: Question) -> AskedQuestion:
        """The reply with its question."""
        return AskedQuestion(question, (self.reply,), (self.finish,))


class OutcomeRow(Contract):
    """A judged reply. `model` is `initial_basic`, `initial_refuse` or a strategy's name."""

    set: str
    id: str
    model: str
    reply: str
    finish: FinishReason = FinishReason.STOP
    outcome: Outcome
    parsed: str | None = None
    category: str | None = None
