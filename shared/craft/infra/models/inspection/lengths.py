"""Counts the tokens of those rows that may be too long; most are too short by their bytes alone."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.rows import QuestionRow
from craft.core.prompts import PromptTemplates
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question
from craft.core.rows.fields import excerpt
from craft.core.rows.split import question_identity
from craft.infra.models.inspection.chat_tokenizer import ChatTokenizer
from craft.infra.models.inspection.documents import LongRow
from craft.infra.models.inspection.limits import Limit, limits_of, shortest_question

_SLACK = 16
"""Tokens at the seams of a prompt that may come on top when its parts are counted one by one."""
_MARK = "Zqxj"


@dataclass(frozen=True, slots=True)
class _Measured:
    """A limit, the tokens of its prompt around a question, and how often the prompt holds the question."""

    limit: Limit
    overhead: int
    copies: int

    @property
    def room(self) -> int:
        """Tokens that a row surely may have."""
        return (self.limit.tokens - self.limit.new_tokens - self.overhead - _SLACK) // self.copies


class RowLengths:
    """Measures rows against all limits of a job. A token is at least one byte of its text."""

    def __init__(self, tokenizer: ChatTokenizer, spec: JobSpec, templates: PromptTemplates, context: int) -> None:
        self._tokenizer = tokenizer
        self._measured = [
            self._measure(limit, shortest_question(spec.task))
            for limit in limits_of(spec, templates, context_length=context)
        ]

    def room(self, *, own: bool) -> int:
        """Bytes of a stored row up to which it surely keeps all limits. `own`: of the job's own dataset."""
        return min(each.room for each in self._of(own=own))

    def long_rows(self, set_name: str, line: int, row: QuestionRow, *, own: bool) -> Iterator[LongRow]:
        """The first limit that the row exceeds on the training side, and the first on the evaluated side."""
        question = row.to_question()
        body = self._tokenizer.count("\n".join(_parts(question)))
        found: set[bool] = set()
        for each in self._of(own=own):
            limit = each.limit
            if limit.trained in found:
                continue
            target = max((self._tokenizer.count(text) for text in limit.targets(question)), default=0)
            if body + target <= each.room:
                continue
            tokens = self._tokenizer.count(self._tokenizer.text(limit.messages(question))) + target
            if tokens + limit.new_tokens > limit.tokens:
                found.add(limit.trained)
                yield LongRow(
                    set=set_name,
                    line=line,
                    question=excerpt(row.question),
                    identity=question_identity(question),
                    tokens=tokens + limit.new_tokens,
                    limit=limit.tokens,
                    setting=limit.setting,
                    trained=limit.trained,
                )

    def _of(self, *, own: bool) -> Sequence[_Measured]:
        return [each for each in self._measured if own or not each.limit.trained]

    def _measure(self, limit: Limit, shortest: Question) -> _Measured:
        whole = self._tokenizer.text(limit.messages(_asking(shortest, _MARK)))
        return _Measured(limit, overhead=self._tokenizer.count(whole), copies=max(1, whole.count(_MARK)))


def _asking(question: Question, text: str) -> Question:
    if isinstance(question, ChoiceQuestion):
        return ChoiceQuestion(question.id, text, question.choices, question.answer)
    return OpenQuestion(question.id, text, question.answers)


def _parts(question: Question) -> list[str]:
    options = question.choices if isinstance(question, ChoiceQuestion) else ()
    return [question.question, *options, question.category or ""]


def max_tokens_of(line: bytes) -> int:
    """An upper bound of the tokens of a stored row: its bytes, also after the tokenizer has normalised them."""
    if line.isascii():
        return len(line)
    return max(len(line), len(unicodedata.normalize("NFKC", line.decode()).encode()))
