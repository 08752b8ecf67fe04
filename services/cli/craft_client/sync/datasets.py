# Made from craft_client/aio by services/cli/sync_client.py: change it there, then run `make client`.
"""/craft/datasets."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from craft.contracts.rest_datasets import DatasetFormat
from craft.contracts.views import DatasetList, DatasetView
from craft.core.questions import Task
from craft_client.answers import operation, query, route
from craft_client.sync.paging import every
from craft_client.sync.transport import Transport


class Datasets:
    """Calls on datasets. The same questions are the same dataset, however often they are sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        path: Path | str,
        *,
        task: Task | str = Task.OPEN_ENDED,
        name: str | None = None,
        format: DatasetFormat | str = DatasetFormat.AUTO,
    ) -> DatasetView:
        """Upload a JSONL, JSON, CSV or Parquet file. Raises ApiError with row errors where rows are wrong."""
        source = Path(path)
        fields = {"task": str(task), "name": name or source.stem[:200] or "dataset", "format": str(format)}
        with source.open("rb") as file:
            return self._transport.upload(DatasetView, "/craft/datasets", file=file, name=source.name, fields=fields)

    @operation("createDataset")
    def create(
        self, rows: Sequence[Mapping[str, Any]], *, task: Task | str = Task.OPEN_ENDED, name: str | None = None
    ) -> DatasetView:
        """Keep rows as a dataset, 10,000 at most; larger ones are uploaded as a file."""
        body = {"rows": [*rows], "task": task, **query(name=name)}
        return self._transport.call(DatasetView, "POST", "/craft/datasets", json=body)

    @operation("listDatasets")
    def list(self, *, limit: int | None = None, after: str | None = None) -> DatasetList:
        """A page of datasets, newest first."""
        return self._transport.call(DatasetList, "GET", "/craft/datasets", params=query(limit=limit, after=after))

    def iterate(self) -> Iterator[DatasetView]:
        """All datasets, newest first, page by page as they are asked for."""

        def fetch(after: str | None) -> DatasetList:
            return self.list(limit=100, after=after)

        for dataset in every(fetch, lambda dataset: dataset.id):
            yield dataset

    @operation("getDataset")
    def get(self, dataset_id: str) -> DatasetView:
        """One dataset."""
        return self._transport.call(DatasetView, "GET", route("/craft/datasets/{}", dataset_id))
