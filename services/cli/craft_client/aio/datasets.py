"""/craft/datasets."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from craft.contracts.public.datasets import DatasetList, DatasetOverlap, DatasetPreview, DatasetView
from craft.contracts.services.datasets import DatasetFormat
from craft.contracts.spec.dataset_sources import HttpsSource, HubSource, S3Source
from craft.core.questions import Task
from craft_client.aio.paging import every
from craft_client.aio.transport import AsyncTransport
from craft_client.answers import body_of, operation, query, route

_FETCH_SECONDS = 600.0
"""Longer than the server gives a source."""


class AsyncDatasets:
    """Calls on datasets. The same questions are the same dataset, however often they are sent."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        path: Path | str,
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str = DatasetFormat.AUTO,
        columns: Mapping[str, str] | None = None,
    ) -> DatasetView:
        """Upload a JSONL, JSON, CSV or Parquet file. Raises ApiError with row errors where rows are wrong.

        `task` is open-ended where it is not said, and must be said for rows with `choices`. `columns` names the file's
        own column, or a dotted path, for ours: `{"question": "prompt"}`.
        """
        source = Path(path)
        fields = {"name": name or source.stem[:200] or "dataset", "format": str(format)}
        fields |= {"task": str(task)} if task else {}
        fields |= {"columns": json.dumps(dict(columns))} if columns else {}
        with source.open("rb") as file:
            return await self._transport.upload(
                DatasetView, "/craft/datasets", file=file, name=source.name, fields=fields
            )

    @operation("createDataset")
    async def create(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> DatasetView:
        """Keep rows as a dataset, 10,000 at most; larger ones are uploaded as a file."""
        body = {"rows": [*rows], **query(task=task, name=name, format=format, columns=columns)}
        return await self._transport.call(DatasetView, "POST", "/craft/datasets", json=body)

    async def fetch(
        self,
        source: HttpsSource | HubSource | S3Source | Mapping[str, Any],
        *,
        task: Task | str | None = None,
        name: str | None = None,
        format: DatasetFormat | str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> DatasetView:
        """Have the server fetch a file: `{"kind": "https", "url": …}`, of the hub, or of S3. Else as `upload`."""
        body = {"source": body_of(source), **query(task=task, name=name, format=format, columns=columns)}
        return await self._transport.call(
            DatasetView, "POST", "/craft/datasets", json=body, timeout_seconds=_FETCH_SECONDS
        )

    @operation("listDatasets")
    async def list(self, *, limit: int | None = None, after: str | None = None) -> DatasetList:
        """A page of datasets, newest first."""
        return await self._transport.call(DatasetList, "GET", "/craft/datasets", params=query(limit=limit, after=after))

    async def iterate(self) -> AsyncIterator[DatasetView]:
        """All datasets, newest first, page by page as they are asked for."""

        async def fetch(after: str | None) -> DatasetList:
            return await self.list(limit=100, after=after)

        async for dataset in every(fetch, lambda dataset: dataset.id):
            yield dataset

    @operation("getDataset")
    async def get(self, dataset_id: str) -> DatasetView:
        """One dataset."""
        return await self._transport.call(DatasetView, "GET", route("/craft/datasets/{}", dataset_id))

    @operation("deleteDataset")
    async def delete(self, dataset_id: str) -> None:
        """Delete a dataset. Raises ApiError (409) while an unfinished job reads it."""
        await self._transport.send("DELETE", route("/craft/datasets/{}", dataset_id))

    @operation("previewDataset")
    async def preview(
        self, dataset_id: str, *, limit: int | None = None, base_model: str | None = None
    ) -> DatasetPreview:
        """Its first rows and the prompts made of them; with `base_model` also as its chat template writes them."""
        params = query(limit=limit, base_model=base_model)
        return await self._transport.call(
            DatasetPreview, "GET", route("/craft/datasets/{}/preview", dataset_id), params=params
        )

    @operation("compareDatasets")
    async def overlap(self, dataset_id: str, other: str) -> DatasetOverlap:
        """Its rows whose questions the other dataset asks too."""
        path = route("/craft/datasets/{}/overlap", dataset_id)
        return await self._transport.call(DatasetOverlap, "GET", path, params={"with": other})
