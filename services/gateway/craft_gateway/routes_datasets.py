"""Datasets: upload, list, look at."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from craft.contracts.base import DATASET_ID, Contract
from craft.contracts.job import MOST_INLINE_ROWS, PlainText
from craft.contracts.rest_datasets import DatasetFormat
from craft.contracts.views import DatasetList, DatasetView
from craft.core.questions import Task
from craft.errors import DatasetInvalid, NotFound, PayloadTooLarge, RequestInvalid, Unavailable
from craft.infra.http import documented
from craft_gateway.authorisation import DATASETS, CallerOf, guarded
from craft_gateway.routes_body import text_body, validated
from craft_gateway.routes_examples import DATASET_BODY
from craft_gateway.routes_gateway import Gateway, Limit
from craft_gateway.tables import Dataset
from craft_gateway.views import ROOT, dataset_view

_LONGEST_NAME = 200
_HINT = "Send multipart/form-data with a `file`, or JSON with `task` and `rows`."


class RowsUpload(Contract):
    """A dataset as JSON rows."""

    task: Task = Task.OPEN_ENDED
    name: PlainText | None = Field(None, min_length=1, max_length=_LONGEST_NAME)
    rows: list[dict[str, object]] = Field(max_length=MOST_INLINE_ROWS)


class FileFields(Contract):
    """The form fields beside the file."""

    task: Task = Task.OPEN_ENDED
    name: PlainText | None = Field(None, min_length=1, max_length=_LONGEST_NAME)
    format: DatasetFormat = DatasetFormat.AUTO


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(tags=["datasets"], dependencies=guarded(gateway.owners, DATASETS))

    @routes.post(
        "/datasets",
        operation_id="createDataset",
        status_code=201,
        response_model=DatasetView,
        responses=documented(DatasetInvalid, RequestInvalid, PayloadTooLarge, Unavailable),
        openapi_extra={"requestBody": DATASET_BODY},
    )
    async def create_dataset(request: Request, response: Response, caller: CallerOf) -> DatasetView:
        """Validate and keep a dataset. Row errors come with line, field and excerpt, up to 100 of them."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            dataset = await _from_file(gateway, request, caller.team)
        elif kind == "application/json":
            upload = validated(RowsUpload, _parsed(await text_body(request)))
            dataset = await run_in_threadpool(
                gateway.datasets.add_rows, upload.rows, task=upload.task, name=upload.name, team=caller.team
            )
        else:
            raise RequestInvalid("A dataset comes as a file or as JSON.", hint=_HINT, param="Content-Type")
        response.headers["Location"] = f"{ROOT}/datasets/{dataset.id}"
        return dataset_view(dataset)

    @routes.get("/datasets", operation_id="listDatasets", responses=documented(RequestInvalid))
    def list_datasets(
        caller: CallerOf,
        limit: Limit = 20,
        after: Annotated[str | None, Query(pattern=DATASET_ID, description="The `last_id` of the page before.")] = None,
    ) -> DatasetList:
        """Datasets, newest first."""
        return gateway.reader.datasets(team=caller.team, limit=limit, after=after)

    @routes.get("/datasets/{dataset_id}", operation_id="getDataset", responses=documented(NotFound))
    def get_dataset(dataset_id: str) -> DatasetView:
        """One dataset."""
        return gateway.reader.dataset(dataset_id)

    return routes


async def _from_file(gateway: Gateway, request: Request, team: str) -> Dataset:
    """Store the form's file. It is spooled to disk and streamed on, so its size is no matter of memory."""
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise RequestInvalid("The form has no file.", hint=_HINT, param="file")
            fields = validated(FileFields, {name: value for name, value in form.items() if name != "file"})
            return await run_in_threadpool(
                gateway.datasets.add_file,
                file.file,
                task=fields.task,
                form=fields.format,
                name=fields.name or _shown(file.filename),
                team=team,
            )
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise RequestInvalid(f"The form cannot be read: {error.detail}", hint=_HINT) from error


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"The body is not JSON: {str(error)[:200]}", hint=_HINT) from None


def _shown(file_name: str | None) -> str | None:
    """A file's name as a label to show: never used as a path."""
    last = (file_name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(mark for mark in last if mark.isprintable())[:_LONGEST_NAME] or None
