"""The teams' datasets: each is a row here and an artifact that the datasets service wrote."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from craft.contracts.base import DATASET_ID
from craft.contracts.events import EventType
from craft.contracts.public.datasets import DatasetLinks, DatasetList, DatasetView
from craft.contracts.services.datasets import DatasetStatistics, DatasetStored, FetchRequest, Reading
from craft.contracts.spec.dataset_sources import FetchedSource
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.rows import QuestionRow
from craft.core.questions import Task
from craft.core.rows.columns import NO_MAP, ColumnMap
from craft.core.rows.errors import RowErrors
from craft.core.rows.fields import RowInvalid, excerpt
from craft.core.rows.reader import question_from_row, task_of_row
from craft.errors import Conflict, DatasetInvalid, ErrorDetail
from craft.infra.ids import new_id
from craft_gateway.access.owners import no_dataset
from craft_gateway.datasets.client import DatasetsClient
from craft_gateway.events import record
from craft_gateway.http.responses import ROOT
from craft_gateway.store.database import Database
from craft_gateway.store.paging import read_page
from craft_gateway.store.tables import Dataset, Job

_UNFINISHED = [status for status in JobStatus if not status.terminal]
_SHOWN_COLUMNS = 30


class DatasetRegistry:
    """Datasets by id. To a team the same questions are one dataset, however often sent; its first name stays."""

    def __init__(self, database: Database, client: DatasetsClient) -> None:
        self._database = database
        self._client = client

    def add_file(self, file: BinaryIO, reading: Reading, *, name: str | None, team: str) -> Dataset:
        """Validate and keep an upload. Raises DatasetInvalid with row errors, Unavailable."""
        return self._remember(self._client.store_file(file, reading), reading, name, team)

    def add_source(self, request: FetchRequest, *, name: str | None, team: str) -> Dataset:
        """Fetch, validate and keep. Raises DatasetInvalid, RequestInvalid, PayloadTooLarge, Unavailable."""
        return self._remember(self._client.store_source(request), request.reading, name, team)

    def add_rows(
        self,
        rows: Sequence[Mapping[str, object]],
        reading: Reading,
        *,
        name: str | None,
        team: str,
        param: str = "rows",
    ) -> Dataset:
        """The same for rows of a request; a row error's `line` is the row's position, from 1."""
        good = checked_rows(rows, task=reading.task, columns=reading.column_map, param=param)
        return self._remember(self._client.store_rows(good, task=reading.stored_task), reading, name, team)

    def row(self, dataset_id: str, *, team: str | None = None) -> Dataset:
        """One dataset's row; with `team` only where it is that team's. Raises NotFound."""
        with self._database.read() as session:
            found = session.get(Dataset, dataset_id) if re.fullmatch(DATASET_ID, dataset_id) else None
        if found is None or team not in {None, found.team}:
            raise no_dataset()
        return found

    def listed(self, *, team: str, limit: int, after: str | None) -> DatasetList:
        """A page of a team's datasets, newest first."""
        query = select(Dataset).where(Dataset.team == team).order_by(col(Dataset.id).desc())
        if after is not None:
            query = query.where(col(Dataset.id) < after)
        with self._database.read() as session:
            page = read_page(session, query, limit)
        views = [dataset_view(dataset) for dataset in page.rows]
        return DatasetList(data=views, has_more=page.has_more, last_id=page.last.id if page.last else None)

    def delete(self, dataset_id: str) -> None:
        """Forget it; its bytes expire as what nothing needs does. Raises NotFound, Conflict where a job needs it."""
        with self._database.write() as session:
            # A job that is being made holds the row: it is either seen here, or finds no dataset.
            found = session.exec(select(Dataset).where(Dataset.id == dataset_id).with_for_update()).first()
            if found is None:
                raise no_dataset()
            jobs = jobs_reading(session, found)
            if jobs:
                more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
                raise Conflict(
                    f"The dataset is in use by {jobs[0]}{more}.", hint="Wait for the end of its jobs, or cancel them."
                )
            gone = {"name": found.name, "rows": found.rows}
            record(session, self._database.now(session), found.team, found.id, EventType.DATASET_DELETED, **gone)
            session.delete(found)

    def _remember(self, stored: DatasetStored, reading: Reading, name: str | None, team: str) -> Dataset:
        described = _Described(name, reading.columns or None, stored.source)
        # Two uploads of the same rows may race to be first; the loser finds the winner's row.
        with suppress(IntegrityError):
            return self._find_or_insert(stored, described, team)
        return self._find_or_insert(stored, described, team)

    def _find_or_insert(self, stored: DatasetStored, described: "_Described", team: str) -> Dataset:
        with self._database.write() as session:
            same = select(Dataset).where(Dataset.team == team, Dataset.content_hash == stored.ref.key)
            known = session.exec(same).first()
            if known is not None:
                return known
            now = self._database.now(session)
            dataset = Dataset(
                id=new_id("dset"),
                team=team,
                name=described.name,
                task=stored.task,
                rows=stored.rows,
                key=stored.ref.key,
                digest=stored.ref.digest,
                statistics=stored.statistics.model_dump(mode="json"),
                content_hash=stored.ref.key,
                columns=described.columns,
                source=described.source.model_dump(mode="json") if described.source else None,
                created_at=now,
            )
            session.add(dataset)
            from_uri = {"source": described.source.uri} if described.source else {}
            made = {"name": described.name, "rows": stored.rows, **from_uri}
            record(session, now, team, dataset.id, EventType.DATASET_CREATED, **made)
        return dataset


class _Described(NamedTuple):
    """What a dataset's row says beside what it holds."""

    name: str | None
    columns: dict[str, str] | None
    source: FetchedSource | None


def checked_rows(
    rows: Sequence[Mapping[str, object]], *, task: Task | None, columns: ColumnMap = NO_MAP, param: str = "rows"
) -> list[dict[str, object]]:
    """The rows in their one normal form, or DatasetInvalid: the first 100 row errors, or `choices` without a task said.

    What JSON allows and UTF-8 or 64 bits do not (lone surrogates, huge numbers) ends here, with the row named.
    """
    good: list[dict[str, object]] = []
    errors = RowErrors()
    first_line: dict[str, int] = {}
    for line, row in enumerate(rows, start=1):
        try:
            mapped = columns.apply(row)
            question = question_from_row(mapped, task=task_of_row(mapped, task))
        except RowInvalid as error:
            field = columns.own_name(error.field)
            errors.add(ErrorDetail(f"`{field}` {error.reason}.", field=field, line=line, excerpt=error.excerpt))
            continue
        first = first_line.setdefault(question.id, line)
        if first != line:
            said, field = f"The id is that of row {first} too.", columns.own_name("id")
            errors.add(ErrorDetail(said, field=field, line=line, excerpt=question.id[:120]))
        good.append(QuestionRow.of(question).model_dump(exclude_none=True))
    if errors.total:
        raise DatasetInvalid(
            f"{errors.total:,} of {len(rows):,} rows cannot be used.",
            hint=_hint(rows, columns),
            param=param,
            details=errors.details,
            error_counts=errors.counts,
        )
    if not good:
        raise DatasetInvalid(
            "The dataset has no rows.",
            hint="Open-ended rows need `question` and `answers`; multiple choice `question`, `choices`, `answer`.",
            param=param,
        )
    return good


def _hint(rows: Sequence[Mapping[str, object]], columns: ColumnMap) -> str:
    """What to do about wrong rows; where their columns are called otherwise, which there are."""
    names = list(dict.fromkeys(name for row in rows[:100] for name in row))
    strange = columns.absent(names) or (() if columns.of or "question" in names else ("question",))
    if not names or not strange:
        return "Mend or remove the rows listed in `errors` (the first 100) and send the dataset again."
    shown = ", ".join(f"`{excerpt(name)}`" for name in names[:_SHOWN_COLUMNS])
    return f"There is no column `{excerpt(strange[0])}`: say with `columns` which of {shown} is which."


def jobs_reading(session: Session, dataset: Dataset) -> list[str]:
    """Unfinished jobs of its team that read it, the oldest first."""
    query = select(Job.id, Job.resolved).where(Job.team == dataset.team, col(Job.status).in_(_UNFINISHED))
    found = session.exec(query.order_by(col(Job.id))).all()
    return [job_id for job_id, resolved in found if dataset.id in _named(resolved["spec"])]


def _named(spec: dict[str, object]) -> list[object]:
    """The ids in a specification as it is stored."""
    main, further = spec.get("dataset"), spec.get("evaluation")
    ids = [main.get("id")] if isinstance(main, dict) else []
    return [*ids, *(each.get("dataset") for each in further)] if isinstance(further, list) else ids


def dataset_view(dataset: Dataset) -> DatasetView:
    """A dataset."""
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        task=dataset.task,
        rows=dataset.rows,
        digest=dataset.digest,
        statistics=DatasetStatistics.model_validate(dataset.statistics),
        columns=dataset.columns or {},
        source=None if dataset.source is None else FetchedSource.model_validate(dataset.source),
        created_at=dataset.created_at,
        links=DatasetLinks(self=f"{ROOT}/datasets/{dataset.id}", preview=f"{ROOT}/datasets/{dataset.id}/preview"),
    )
