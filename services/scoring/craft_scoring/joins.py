"""Joins by question id that never lose a row without an error."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from craft.contracts.stages.rows import QuestionRow
from craft.errors import MissingStates


class HasId(Protocol):
    """A row that belongs to one question."""

    @property
    def id(self) -> str:
        """The question's id."""
        ...


RowT = TypeVar("RowT", bound=HasId)


def by_id(rows: Iterable[RowT], *, what: str) -> dict[str, RowT]:
    """The rows by id, in their order. Raises MissingStates if two have the same id: one of them would be lost."""
    rows_by_id: dict[str, RowT] = {}
    for row in rows:
        if row.id in rows_by_id:
            raise MissingStates(
                f"{what}: the question {_name(row)} is there twice", hint="Retry the job from this stage's input."
            )
        rows_by_id[row.id] = row
    return rows_by_id


def _name(row: HasId) -> str:
    """The row as its owner knows it, if it is a question's; else its id."""
    return row.name if isinstance(row, QuestionRow) else row.id


def joined(questions: Sequence[HasId], rows: Iterable[RowT], *, what: str) -> list[RowT]:
    """One row for each question, in the questions' order. Raises MissingStates if a row is missing or left over."""
    given = by_id(rows, what=what)
    wanted = by_id(questions, what="questions")
    if given.keys() != wanted.keys():
        missing = [_name(row) for row_id, row in wanted.items() if row_id not in given]
        extra = [_name(row) for row_id, row in given.items() if row_id not in wanted]
        raise MissingStates(
            f"{what}: {len(missing)} questions have no row and {len(extra)} rows have no question, "
            f"for example {'; '.join((missing + extra)[:3])}",
            hint="Retry the job from this stage's input.",
        )
    return [given[question_id] for question_id in wanted]
