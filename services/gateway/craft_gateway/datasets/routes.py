"""The routes of datasets: create, list, show, preview, compare, delete."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from craft.contracts.base import DATASET_ID
from craft.contracts.public.datasets import DatasetList, DatasetOverlap, DatasetPreview, DatasetView
from craft.contracts.services.datasets import FetchRequest, Reading, columns_of
from craft.contracts.spec.dataset_sources import DatasetSource
from craft.contracts.spec.jobs import MAX_INLINE_ROWS, PlainText
from craft.errors import (
    ArtifactDamaged,
    Conflict,
    DatasetInvalid,
    DiskFull,
    ModelNotFound,
    ModelRejected,
    NotFound,
    PayloadTooLarge,
    RequestInvalid,
    Unavailable,
)
from craft.infra.http.bodies import not_json
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import DATASETS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.datasets.examples import DATASET_BODY
from craft_gateway.datasets.preview import MAX_PREVIEWED, DatasetContents
from craft_gateway.datasets.registry import DatasetRegistry, dataset_view
from craft_gateway.http.bodies import form_codes, parsed_json, text_body, validated
from craft_gateway.http.parameters import Limit
from craft_gateway.http.responses import ROOT
from craft_gateway.store.tables import Dataset

_MAX_NAME_LENGTH = 200
_QUICKLY_PARSED_BYTES = 2**16
_MAX_FIELDS = 40
_HINT = "Send multipart/form-data with a `file`, or JSON (`Content-Type: application/json`) with `rows` or a `source`."
Name = Annotated[PlainText | None, Field(min_length=1, max_length=_MAX_NAME_LENGTH)]


class RowsUpload(Reading):
    """A dataset as JSON rows."""

    name: Name = None
    rows: list[dict[str, object]] = Field(max_length=MAX_INLINE_ROWS)


class SourceUpload(Reading):
    """A dataset that the service fetches."""

    name: Name = None
    source: DatasetSource


class FileFields(Reading):
    """The form fields beside the file."""

    name: Name = None


def router(
    owners: OwnerLookup,
    registry: DatasetRegistry,
    preview: DatasetContents,
    *,
    fetches: Turns,
    uploads: Turns,
    results: Turns,
) -> APIRouter:
    """The routes, over these objects."""
    routes = APIRouter(tags=["datasets"], dependencies=authorised(owners, DATASETS))

    @routes.post(
        "/datasets",
        operation_id="createDataset",
        status_code=201,
        response_model=DatasetView,
        responses=documented(DatasetInvalid, RequestInvalid, PayloadTooLarge, Unavailable, DiskFull),
        openapi_extra={"requestBody": DATASET_BODY},
    )
    async def create_dataset(request: Request, response: Response, caller: CallerOf) -> DatasetView:
        """Validate and keep a dataset: a file, rows, or what a `source` names. The same content is the same dataset.

        Row errors come with line, field and excerpt, up to 100 of them, and counts of all by kind.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            dataset = await _from_file(registry, request, caller.team, uploads)
        elif kind == "application/json":
            dataset = await _from_json(
                registry, await text_body(request), caller.team, fetches=fetches, uploads=uploads
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
        return registry.listed(team=caller.team, limit=limit, after=after)

    @routes.get("/datasets/{dataset_id}", operation_id="getDataset", responses=documented(NotFound))
    def get_dataset(dataset_id: str) -> DatasetView:
        """One dataset: what it holds, where it came from, and statistics of its rows."""
        return dataset_view(registry.row(dataset_id))

    @routes.delete(
        "/datasets/{dataset_id}",
        operation_id="deleteDataset",
        status_code=204,
        responses=documented(NotFound, Conflict),
    )
    def delete_dataset(dataset_id: str) -> Response:
        """Delete a dataset that no unfinished job reads. Finished jobs keep their results; the bytes expire later."""
        registry.delete(dataset_id)
        return Response(status_code=204)

    @routes.get(
        "/datasets/{dataset_id}/preview",
        operation_id="previewDataset",
        responses=documented(NotFound, ArtifactDamaged, ModelNotFound, ModelRejected, Unavailable),
    )
    async def preview_dataset(
        dataset_id: str,
        caller: CallerOf,
        limit: Annotated[int, Query(ge=1, le=MAX_PREVIEWED, description="Rows.")] = 5,
        base_model: Annotated[
            PlainText | None,
            Query(
                max_length=300,
                description="Also render the prompts with this model's chat template; `@revision` may follow its name.",
            ),
        ] = None,
    ) -> DatasetPreview:
        """The first rows as they are stored, and the prompts that probes and training make of them."""

        def made() -> DatasetPreview:
            return preview.preview(registry.row(dataset_id), limit=limit, base_model=base_model)

        return await results.run(caller.team, made)

    @routes.get(
        "/datasets/{dataset_id}/overlap",
        operation_id="compareDatasets",
        responses=documented(NotFound, ArtifactDamaged, RequestInvalid),
    )
    async def compare_datasets(
        dataset_id: str,
        caller: CallerOf,
        other: Annotated[str, Query(alias="with", pattern=DATASET_ID, description="The other dataset.")],
    ) -> DatasetOverlap:
        """Rows of a dataset whose questions another one of the same team asks too: a test set should share none."""

        def compared() -> DatasetOverlap:
            dataset = registry.row(dataset_id)
            return preview.overlap(dataset, registry.row(other, team=dataset.team))

        return await results.run(caller.team, compared)

    return routes


async def _from_json(registry: DatasetRegistry, text: bytes, team: str, *, fetches: Turns, uploads: Turns) -> Dataset:
    upload = _described(text) if len(text) <= _QUICKLY_PARSED_BYTES else await uploads.run(team, _described, text)
    reading = _reading(upload)
    if isinstance(upload, SourceUpload):
        request = FetchRequest(source=upload.source, reading=reading)
        return await fetches.run(team, registry.add_source, request, name=upload.name, team=team)
    return await uploads.run(team, registry.add_rows, upload.rows, reading, name=upload.name, team=team)


def _described(text: bytes) -> SourceUpload | RowsUpload:
    body = _parsed(text)
    if isinstance(body, dict) and "source" in body:
        return validated(SourceUpload, body)
    if isinstance(body, dict) and "rows" not in body:
        raise RequestInvalid("The body has neither `rows` nor a `source`.", hint=_HINT, param="rows")
    return validated(RowsUpload, body)


def _reading(upload: Reading) -> Reading:
    return Reading.model_validate(upload.model_dump(include=set(Reading.model_fields)))


async def _from_file(registry: DatasetRegistry, request: Request, team: str, uploads: Turns) -> Dataset:
    """Store the form's file. It is spooled to disk and streamed on, so that a large file takes no memory."""
    try:
        async with request.form(max_files=1, max_fields=_MAX_FIELDS) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise RequestInvalid("The form has no file.", hint=_HINT, param="file")
            fields = _fields({name: value for name, value in form.items() if name != "file"}, form.getlist("accept"))
            return await uploads.run(
                team,
                registry.add_file,
                file.file,
                _reading(fields),
                name=fields.name or _shown(file.filename),
                team=team,
            )
    except ClientDisconnect:
        # The caller is gone. The log tells of it, and does not call it a defect.
        raise RequestInvalid("The upload broke off.", hint="Nothing was stored; send it again.") from None
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise RequestInvalid(f"The form cannot be read: {error.detail}", hint=_HINT) from error


def _fields(form: Mapping[str, object], accept: Sequence[object]) -> FileFields:
    """The form's fields. A form has texts only: `columns` is JSON, `answer_base` digits, `accept` comes repeatedly."""
    given: dict[str, object] = {"accept": form_codes(accept)}
    columns, answer_base = form.get("columns"), form.get("answer_base")
    if isinstance(columns, str):
        given["columns"] = columns_of(columns)
    if isinstance(answer_base, str) and answer_base.isdecimal():
        given["answer_base"] = int(answer_base)
    return validated(FileFields, {**form, **given})


def _parsed(body: bytes) -> Any:
    try:
        return parsed_json(body)
    except json.JSONDecodeError as error:
        raise not_json(error) from None
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"The body is not JSON: {str(error)[:200]}", hint=_HINT) from None


def _shown(file_name: str | None) -> str | None:
    """A file's name as a label. It is never used as a path."""
    last = (file_name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(mark for mark in last if mark.isprintable())[:_MAX_NAME_LENGTH] or None
