"""Texts in rows that change what the model reads or how a reply is judged: special tokens, and the job's refusals."""

import re
from collections.abc import Iterator, Sequence

import orjson

from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.rows import QuestionRow
from craft.core.judging.refusals import is_refusal, wording_for
from craft.core.prompts import PromptTemplates
from craft.core.questions import Task
from craft.infra.models.inspection.documents import MarkedRow, RefusingRow

_AROUND = 40
_APOSTROPHE = "['\u2019\u2018`\u00b4]"
_FINAL = ".!。！ "


class SpecialTokens:
    """Finds special tokens in rows, quickly: most rows are only searched, not parsed."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """`tokens` longest first, so that the longest of those that begin alike is named."""
        self._anywhere = re.compile(b"|".join(map(re.escape, map(_in_json, tokens)))) if tokens else None
        self._token = re.compile("|".join(map(re.escape, tokens)))

    def found(self, line: bytes) -> tuple[str, str, str] | None:
        """The first text of the row with such a token: its field, the token, and an excerpt; None without one."""
        if self._anywhere is None or not self._anywhere.search(line):
            return None
        for field, text in texts_of(QuestionRow.model_validate_json(line)):
            if match := self._token.search(text):
                start = max(0, match.start() - _AROUND)
                return field, match[0], text[start : match.end() + _AROUND]
        return None


def texts_of(row: QuestionRow) -> Iterator[tuple[str, str]]:
    """The texts of a row that a model reads or writes, by field."""
    yield "question", row.question
    yield from ((f"answers[{at}]", text) for at, text in enumerate(row.answers or ()))
    yield from ((f"choices[{at}]", text) for at, text in enumerate(row.choices or ()))
    if row.category is not None:
        yield "category", row.category


class Refusals:
    """Finds rows whose answers are the refusal that the job teaches, or one that it adds."""

    def __init__(self, spec: JobSpec, templates: PromptTemplates) -> None:
        self._wording = wording_for(spec.prompts.language, spec.prompts.extra_refusals)
        # The refusal in multiple choice stands beside letters: an option in its words is chosen by letter.
        said = [] if spec.task is Task.MULTIPLE_CHOICE else [templates.refusal, *spec.prompts.extra_refusals]
        begins = "|".join(filter(None, map(_spoken, said)))
        self._answer = re.compile(f'"\\s*(?:{begins})'.encode(), re.IGNORECASE) if begins else None

    def found(self, line: bytes) -> tuple[str, bool] | None:
        """The answer of the row that is a refusal, and True if it has no other answer; None without one."""
        if self._answer is None or not self._answer.search(line):
            return None
        answers = QuestionRow.model_validate_json(line).answers or []
        refusing = [answer for answer in answers if is_refusal(answer, self._wording)]
        return (refusing[0], len(refusing) == len(answers)) if refusing else None


def _spoken(phrase: str) -> str:
    """A pattern for a phrase as it begins in JSON: any apostrophe, any spaces."""
    words = [re.escape(_in_json(word).decode()) for word in phrase.strip().rstrip(_FINAL).split()]
    return re.sub(_APOSTROPHE, lambda _: f"(?:{'|'.join(_APOSTROPHE[1:-1])})", r"\s+".join(words))


def _in_json(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


def marked_row(set_name: str, line: int, found: tuple[str, str, str]) -> MarkedRow:
    """The row of the result for a token that was found."""
    field, token, excerpt = found
    return MarkedRow(set=set_name, line=line, field=field, token=token, excerpt=excerpt)


def refusing_row(set_name: str, line: int, found: tuple[str, bool]) -> RefusingRow:
    """The row of the result for a refusal that was found."""
    return RefusingRow(set=set_name, line=line, answer=found[0], only=found[1])
