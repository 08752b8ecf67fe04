"""Datasets come in: rows are checked, the datasets service keeps them, and the gateway remembers them by id."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO

from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from craft.contracts.events import EventType
from craft.contracts.rest_datasets import DatasetFormat, DatasetStored
from craft.contracts.rows import QuestionRow
from craft.core.questions import RowInvalid, Task, question_from_row
from craft.errors import DatasetInvalid, ErrorDetail
from craft.infra.ids import new_id
from craft_gateway.audit import record
from craft_gateway.database import Database
from craft_gateway.datasets_client import DatasetsClient
from craft_gateway.tables import Dataset

_MOST_DETAILS = 100


class DatasetRegistry:
    """Datasets by id. To a team the same questions are one dataset, however often sent; its first name stays."""

    def __init__(self, database: Database, client: DatasetsClient) -> None:
        self._database = database
        self._client = client

    def add_file(self, file: BinaryIO, *, task: Task, form: DatasetFormat, name: str | None, team: str) -> Dataset:
        """Validate and keep an upload. Raises DatasetInvalid with row errors, Unavailable."""
        return self._remember(self._client.store_file(file, task=task, form=form), name, team)

    def add_rows(
        self, rows: Sequence[Mapping[str, object]], *, task: Task, name: str | None, team: str, param: str = "rows"
    ) -> Dataset:
        """The same for rows of a request; a row error's `line` is the row's position, from 1."""
        stored = self._client.store_rows(checked_rows(rows, task=task, param=param), task=task)
        return self._remember(stored, name, team)

    def _remember(self, stored: DatasetStored, name: str | None, team: str) -> Dataset:
        # Two uploads of the same rows may race to be first; the loser finds the winner's row.
        with suppress(IntegrityError):
            return self._find_or_insert(stored, name, team)
        return self._find_or_insert(stored, name, team)

    def _find_or_insert(self, stored: DatasetStored, name: str | None, team: str) -> Dataset:
        with self._database.write() as session:
            same = select(Dataset).where(Dataset.team == team, Dataset.content_hash == stored.ref.key)
            known = session.exec(same).first()
            if known is not None:
                return known
            now = self._database.now(session)
            dataset = Dataset(
                id=new_id("dset"),
                team=team,
                name=name,
                task=stored.task,
                rows=stored.rows,
                key=stored.ref.key,
                digest=stored.ref.digest,
                statistics=stored.statistics.model_dump(mode="json"),
                content_hash=stored.ref.key,
                created_at=now,
            )
            session.add(dataset)
            record(session, now, team, dataset.id, EventType.DATASET_CREATED, name=name, rows=stored.rows)
        return dataset


def checked_rows(rows: Sequence[Mapping[str, object]], *, task: Task, param: str = "rows") -> list[dict[str, object]]:
    """The rows in their one normal form, or DatasetInvalid with the first 100 row errors.

    What JSON allows and UTF-8 or 64 bits do not (lone surrogates, huge numbers) ends here, with the row named.
    """
    good: list[dict[str, object]] = []
    bad: list[ErrorDetail] = []
    first_line: dict[str, int] = {}
    for line, row in enumerate(rows, start=1):
        try:
            question = question_from_row(row, task=task)
        except RowInvalid as error:
            message = f"`{error.field}` {error.reason}."
            bad.append(ErrorDetail(message, field=error.field, line=line, excerpt=error.excerpt))
            continue
        first = first_line.setdefault(question.id, line)
        if first != line:
            excerpt = question.id[:120]
            bad.append(ErrorDetail(f"The id is that of row {first} too.", field="id", line=line, excerpt=excerpt))
        good.append(QuestionRow.of(question).model_dump(exclude_none=True))
    if bad:
        raise DatasetInvalid(
            f"{len(bad):,} of {len(rows):,} rows cannot be used.",
            hint="Mend or remove the rows listed in `errors` (the first 100) and send the dataset again.",
            param=param,
            details=bad[:_MOST_DETAILS],
        )
    if not good:
        raise DatasetInvalid(
            "The dataset has no rows.",
            hint="Open-ended rows need `question` and `answers`; multiple choice `question`, `choices`, `answer`.",
            param=param,
        )
    return good
