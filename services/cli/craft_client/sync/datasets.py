# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""/craft/datasets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from craft.contracts.public.datasets import DatasetList, DatasetOverlap, DatasetPreview, DatasetView
from craft.contracts.services.datasets import DatasetFormat
from craft.contracts.spec.dataset_sources import HttpsSource, HubSource, S3Source
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft_client.encoding import body_of, operation, query, route
from craft_client.sync.paging import all_items
from craft_client.sync.transport import Transport

_FETCH_SECONDS = 600.0
"""Longer than the server's own timeout for a source."""


def _reading(
    task: Task | str | None,
    name: str | None,
    format: DatasetFormat | str | None,
    columns: Mapping[str, str | Sequence[str]] | None,
    answer_base: int | None,
    accept: Sequence[FindingCode | str],
) -> dict[str, Any]:
    """The members of a request beside its rows or its source."""
    mapped = {ours: path if isinstance(path, str) else [*path] for ours, path in (columns or {}).items()}
    return query(
        task=task,
        name=name,
        format=format,
        columns=mapped or None,
        answer_base=answer_base,
        accept=[str(code) for code in accept] or None,
    )


class Datasets:
    """Calls on datasets. The same rows always give the same dataset."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        path: Path | str,
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str = DatasetFormat.AUTO,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        answer_base: int | None = None,
        accept: Sequence[FindingCode | str] = (),
    ) -> DatasetView:
        """Upload a JSONL, JSON, CSV or Parquet file. Raises ApiError with the errors of wrong rows.

        The default `task` is open-ended; rows with options need an explicit one. `columns` maps our column to the
        file's own column or to a dotted path, and answers or choices to several: `{"choices": ["A", "B"]}`.
        `answer_base` is the number of the first option's key. `accept` names error findings to go on with; what was
        noticed is in the view's `findings`.
        """
        source = Path(path)
        fields = {"name": name or source.stem[:200] or "dataset", "format": str(format)}
        fields |= {"task": str(task)} if task else {}
        fields |= {"columns": json.dumps(dict(columns))} if columns else {}
        fields |= {} if answer_base is None else {"answer_base": str(answer_base)}
        fields |= {"accept": ",".join(map(str, accept))} if accept else {}
        with source.open("rb") as file:
            return self._transport.upload(DatasetView, "/craft/datasets", file=file, name=source.name, fields=fields)

    @operation("createDataset")
    def create(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        answer_base: int | None = None,
        accept: Sequence[FindingCode | str] = (),
    ) -> DatasetView:
        """Make a dataset of at most 10,000 rows. Upload a larger one as a file."""
        body = {"rows": [*rows], **_reading(task, name, format, columns, answer_base, accept)}
        return self._transport.call(DatasetView, "POST", "/craft/datasets", json=body)

    def fetch(
        self,
        source: HttpsSource | HubSource | S3Source | Mapping[str, Any],
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        answer_base: int | None = None,
        accept: Sequence[FindingCode | str] = (),
    ) -> DatasetView:
        """Let the server fetch a file from https (`{"kind": "https", "url": …}`), the hub or S3. Else as `upload`."""
        body = {"source": body_of(source), **_reading(task, name, format, columns, answer_base, accept)}
        return self._transport.call(DatasetView, "POST", "/craft/datasets", json=body, timeout_seconds=_FETCH_SECONDS)

    @operation("listDatasets")
    def list(self, *, limit: int | None = None, after: str | None = None) -> DatasetList:
        """A page of datasets, newest first."""
        return self._transport.call(DatasetList, "GET", "/craft/datasets", params=query(limit=limit, after=after))

    def iterate(self) -> Iterator[DatasetView]:
        """All datasets, newest first, fetched page by page as needed."""

        def fetch(after: str | None) -> DatasetList:
            return self.list(limit=100, after=after)

        for dataset in all_items(fetch, lambda dataset: dataset.id):
            yield dataset

    @operation("getDataset")
    def get(self, dataset_id: str) -> DatasetView:
        """One dataset."""
        return self._transport.call(DatasetView, "GET", route("/craft/datasets/{}", dataset_id))

    @operation("deleteDataset")
    def delete(self, dataset_id: str) -> None:
        """Delete a dataset. Raises ApiError (409) while an unfinished job reads it."""
        self._transport.send("DELETE", route("/craft/datasets/{}", dataset_id))

    @operation("previewDataset")
    def preview(self, dataset_id: str, *, limit: int | None = None, base_model: str | None = None) -> DatasetPreview:
        """The first rows and their prompts; with `base_model`, also as that model's chat template renders them."""
        params = query(limit=limit, base_model=base_model)
        return self._transport.call(
            DatasetPreview, "GET", route("/craft/datasets/{}/preview", dataset_id), params=params
        )

    @operation("compareDatasets")
    def overlap(self, dataset_id: str, other: str) -> DatasetOverlap:
        """The rows whose questions are also in the other dataset."""
        path = route("/craft/datasets/{}/overlap", dataset_id)
        return self._transport.call(DatasetOverlap, "GET", path, params={"with": other})
