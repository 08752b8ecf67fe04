"""The service's REST calls; each parses, calls one function and returns its result."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Form, Header, UploadFile
from pydantic import Field

from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.contracts.services.datasets import (
    TEAM_HEADER,
    DatasetFormat,
    DatasetStored,
    DroppedQuestion,
    FetchRequest,
    Reading,
    SelectRequest,
    SelectResponse,
    columns_of,
)
from craft.core.questions import Task
from craft.errors import DatasetInvalid, DiskFull, PayloadTooLarge, RateLimited, RequestInvalid, Unavailable
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_datasets.intake import DatasetIntake
from craft_datasets.selection import choose_stateless
from craft_datasets.sources.sources import Sources

_MAX_TEAM_LENGTH = 100
TeamOf = Annotated[str, Header(alias=TEAM_HEADER, max_length=_MAX_TEAM_LENGTH, description="The team that waits.")]


def router(intake: DatasetIntake, sources: Sources, *, readings: Turns, fetches: Turns) -> APIRouter:
    """The routes. `readings` gives turns to readings of files, each of which is a process; `fetches` to downloads."""
    routes = APIRouter(prefix="/v1", tags=["datasets"])

    @routes.post("/select", operation_id="select")
    def select(request: SelectRequest) -> SelectResponse:
        """Decide for every question whether it teaches its answer, teaches refusal or is dropped (Algorithm 1)."""
        selection = choose_stateless(request)
        return SelectResponse(
            van=list(selection.van),
            idk=list(selection.idk),
            dropped=[DroppedQuestion(id=drop.id, reason=drop.reason) for drop in selection.dropped],
        )

    @routes.post("/datasets", operation_id="storeDataset")
    async def store_dataset(
        file: Annotated[UploadFile, File(description="JSONL, JSON, CSV or Parquet; the bytes decide.")],
        task: Annotated[
            Task | None, Form(description="Open-ended where it is not said; rows with `choices` need it said.")
        ] = None,
        form: Annotated[DatasetFormat, Form(alias="format")] = DatasetFormat.AUTO,
        columns: Annotated[str, Form(max_length=4000, description="JSON: by our name the file's own column.")] = "{}",
        answer_base: Annotated[
            int | None, Form(ge=0, le=1, description="The number of the first option's key.")
        ] = None,
        accept: Annotated[
            list[Annotated[str, Field(max_length=100)]] | None,
            Form(max_length=100, description="Codes of error findings to go on with."),
        ] = None,
        team: TeamOf = DEFAULT_TEAM,
        *,
        chat_lines: Annotated[bool, Form(description="Each line is a chat in the form of OpenAI's files.")] = False,
    ) -> DatasetStored:
        """Check an upload and keep it as an immutable artifact; the same questions are the same dataset.

        Rows of a request come here too, as JSONL; a row error's `line` is the row's position then, from 1.
        """
        reading = Reading.model_validate(
            {
                "task": task,
                "format": form,
                "columns": columns_of(columns),
                "answer_base": answer_base,
                "accept": accept or [],
            }
        )

        def stored() -> DatasetStored:
            with tempfile.TemporaryDirectory(prefix="craft-upload-") as folder:
                source = Path(folder) / "upload"
                with source.open("wb") as copy:
                    shutil.copyfileobj(file.file, copy)
                return intake.store_file(source, reading, chat_lines=chat_lines)

        return await readings.run(team, stored)

    @routes.post(
        "/datasets/source",
        operation_id="fetchDataset",
        responses=documented(DatasetInvalid, RequestInvalid, PayloadTooLarge, RateLimited, Unavailable, DiskFull),
    )
    async def fetch_dataset(request: FetchRequest, team: TeamOf = DEFAULT_TEAM) -> DatasetStored:
        """Fetch a dataset once and keep it as if it had been uploaded."""
        with tempfile.TemporaryDirectory(prefix="craft-source-") as folder:
            target = Path(folder) / "fetched"
            found = await fetches.run(team, sources.fetch, request.source, target)
            stored = await readings.run(team, intake.store_file, target, request.reading)
            return stored.model_copy(update={"source": found})

    return routes
