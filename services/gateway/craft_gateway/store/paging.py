"""A page of a list: the rows that were asked for, and whether there are more."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class ListPage(Generic[RowT]):
    """The first rows of a list, or those after the page before."""

    rows: Sequence[RowT]
    has_more: bool

    @classmethod
    def of(cls, rows: Iterable[RowT], limit: int) -> "ListPage[RowT]":
        """The first `limit` rows; one more than that is looked at, since it tells whether there are more."""
        found = list(islice(rows, limit + 1))
        return cls(found[:limit], has_more=len(found) > limit)

    @property
    def last(self) -> RowT | None:
        """The row after which the next page begins; None on an empty page."""
        return self.rows[-1] if self.rows else None


def read_page(session: Session, query: SelectOfScalar[RowT], limit: int) -> ListPage[RowT]:
    """The first `limit` rows of the query."""
    return ListPage.of(session.exec(query.limit(limit + 1)).all(), limit)
