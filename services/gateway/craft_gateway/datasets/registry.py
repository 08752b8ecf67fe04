"""The teams' datasets: each is a row of the database and an artifact that the datasets service wrote."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from craft.contracts.base import DATASET_ID
from craft.contracts.events import EventType
from craft.contracts.findings import Finding
from craft.contracts.public.datasets import DatasetLinks, DatasetList, DatasetView
from craft.contracts.services.datasets import DatasetStatistics, DatasetStored, FetchRequest, Paths, Reading
from craft.contracts.spec.dataset_sources import FetchedSource
from craft.contracts.spec.jobs import JobStatus
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


class DatasetRegistry:
    """Datasets by id. A team that sends the same questions again gets the same dataset, under its first name."""

    def __init__(self, database: Database, client: DatasetsClient) -> None:
        self._database = database
        self._client = client

    def add_file(
        self, file: BinaryIO, reading: Reading, *, name: str | None, team: str, chat_lines: bool = False
    ) -> Dataset:
        """Have an upload checked and kept. Raises DatasetInvalid with row errors, Unavailable.

        `chat_lines`: each line is a chat in OpenAI's form.
        """
        stored = self._client.store_file(file, reading, team=team, chat_lines=chat_lines)
        return self._remember(stored, reading, name, team)

    def add_source(self, request: FetchRequest, *, name: str | None, team: str) -> Dataset:
        """Have a source fetched, checked and kept.

        Raises DatasetInvalid, RequestInvalid, PayloadTooLarge, Unavailable.
        """
        return self._remember(self._client.store_source(request, team=team), request.reading, name, team)

    def add_rows(
        self,
        rows: Sequence[Mapping[str, object]],
        reading: Reading,
        *,
        name: str | None,
        team: str,
        param: str = "rows",
    ) -> Dataset:
        """Have a request's rows checked and kept. `param` is where they are in the request.

        Raises DatasetInvalid, whose row errors name a row by its position, from 1, as `line`; Unavailable.
        """
        try:
            return self.add_file(io.BytesIO(_json_lines(rows)), reading, name=name, team=team)
        except DatasetInvalid as error:
            # The service does not know where the rows came from.
            if error.param in {None, "file"}:
                error.param = param
            raise

    def row(self, dataset_id: str, *, team: str | None = None) -> Dataset:
        """The row of a dataset, of `team` where that is given. Raises NotFound."""
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
        """Delete a dataset's row; the garbage collector removes its bytes later.

        Raises NotFound, and Conflict if an unfinished job reads it.
        """
        with self._database.write() as session:
            # A job that is being made has the row locked: either this sees the job, or the job finds no dataset.
            found = session.exec(select(Dataset).where(Dataset.id == dataset_id).with_for_update()).first()
            if found is None:
                raise no_dataset()
            jobs = jobs_reading(session, found)
            if jobs:
                more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
                raise Conflict(
                    f"The dataset is in use by {jobs[0]}{more}.", hint="Wait for the end of its jobs, or cancel them."
                )
            data = {"name": found.name, "rows": found.rows}
            record(session, self._database.now(session), found.team, found.id, EventType.DATASET_DELETED, **data)
            session.delete(found)

    def _remember(self, stored: DatasetStored, reading: Reading, name: str | None, team: str) -> Dataset:
        description = _Description(name, reading.columns or None, stored.source)
        # Two uploads of the same rows may race to be first; the loser finds the winner's row.
        with suppress(IntegrityError):
            return self._find_or_insert(stored, description, team)
        return self._find_or_insert(stored, description, team)

    def _find_or_insert(self, stored: DatasetStored, description: "_Description", team: str) -> Dataset:
        with self._database.write() as session:
            same = select(Dataset).where(Dataset.team == team, Dataset.content_hash == stored.ref.key)
            known = session.exec(same).first()
            if known is not None:
                # Another version stores the same rows as other bytes. The new ones were stored just now, so they are
                # undamaged.
                known.digest = stored.ref.digest
                known.findings = _merged(known.findings or [], stored.findings)
                return known
            now = self._database.now(session)
            dataset = Dataset(
                id=new_id("dset"),
                team=team,
                name=description.name,
                task=stored.task,
                rows=stored.rows,
                key=stored.ref.key,
                digest=stored.ref.digest,
                statistics=stored.statistics.model_dump(mode="json"),
                content_hash=stored.ref.key,
                columns=description.columns,
                findings=_merged([], stored.findings),
                source=description.source.model_dump(mode="json") if description.source else None,
                created_at=now,
            )
            session.add(dataset)
            from_uri = {"source": description.source.uri} if description.source else {}
            data = {"name": description.name, "rows": stored.rows, **from_uri}
            record(session, now, team, dataset.id, EventType.DATASET_CREATED, **data)
        return dataset


def _merged(known: list[dict[str, Any]], found: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings that are known, and those of an upload whose kind and field are new.

    The same rows may be read from another file, which has columns that are not read.
    """
    kinds = {(each["code"], each["field"]) for each in known}
    return [*known, *(each.model_dump(mode="json") for each in found if (each.code, each.field) not in kinds)]


class _Description(NamedTuple):
    """The facts of a dataset that its content does not tell."""

    name: str | None
    columns: Paths | None
    source: FetchedSource | None


def _json_lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    """The rows as they came, a line each. The datasets service is the one that checks them."""
    lines = []
    for position, row in enumerate(rows, start=1):
        try:
            line = json.dumps(row, ensure_ascii=False)
        except RecursionError:
            message = "The row is nested too deeply."
            detail = ErrorDetail(message, line=position)
            raise DatasetInvalid(message, hint="Leave the nested member out.", details=[detail]) from None
        # UTF-8 has no lone surrogates: they become JSON's escapes again, which the service refuses by line and field.
        lines.append(line.encode("utf-8", "backslashreplace") + b"\n")
    return b"".join(lines)


def jobs_reading(session: Session, dataset: Dataset) -> list[str]:
    """The unfinished jobs of a dataset's team that read it, oldest first."""
    query = select(Job.id, Job.resolved).where(Job.team == dataset.team, col(Job.status).in_(_UNFINISHED))
    found = session.exec(query.order_by(col(Job.id))).all()
    return [job_id for job_id, resolved in found if dataset.id in _dataset_ids(resolved["spec"])]


def _dataset_ids(spec: dict[str, object]) -> list[object]:
    """The ids of the datasets in a stored specification."""
    main, further = spec.get("dataset"), spec.get("evaluation")
    ids = [main.get("id")] if isinstance(main, dict) else []
    return [*ids, *(each.get("dataset") for each in further)] if isinstance(further, list) else ids


def dataset_view(dataset: Dataset) -> DatasetView:
    """The view of a dataset."""
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        task=dataset.task,
        rows=dataset.rows,
        digest=dataset.digest,
        statistics=DatasetStatistics.model_validate(dataset.statistics),
        columns=dataset.columns or {},
        findings=[Finding.model_validate(each) for each in dataset.findings or []],
        source=None if dataset.source is None else FetchedSource.model_validate(dataset.source),
        created_at=dataset.created_at,
        links=DatasetLinks(self=f"{ROOT}/datasets/{dataset.id}", preview=f"{ROOT}/datasets/{dataset.id}/preview"),
    )
