"""OpenAI's routes of files: they store uploaded chat lines as datasets."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from craft.contracts.openai.chat import OpenAiErrorBody
from craft.contracts.openai.tuning import FileDeleted, FileList, FileObject
from craft.contracts.spec.jobs import PlainText
from craft.errors import RequestInvalid
from craft.infra.http.openapi import OpenApiResponses
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import DATASETS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.parameters import MAX_ON_A_PAGE
from craft_gateway.openai.errors import OPENAI_RESPONSES, missing
from craft_gateway.openai.files import OpenAiFiles, Order, accepting
from craft_gateway.openai.routes_chat import OpenAiRoute

_MAX_NAME_LENGTH = 200
_LARGEST_LIMIT = 10_000
FileId = Annotated[PlainText, Path(max_length=100, examples=["file-01jgywz3x4v5q6r7s8t9vawbxc"])]
_NO_FILE = missing("no such file")
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "JSONL, a chat a line."},
                    "purpose": {"type": "string", "enum": ["fine-tune"]},
                    "accept": {
                        "type": "string",
                        "maxLength": 4000,
                        "pattern": r"^[^\x00]*$",
                        "description": "Codes of error findings to go on with, by commas.",
                    },
                },
            }
        }
    },
}
_CONTENT: OpenApiResponses = {
    200: {
        "description": "A chat a line.",
        "content": {
            "application/jsonl": {
                "schema": {"type": "string"},
                "example": '{"messages":[{"role":"user","content":"…"},{"role":"assistant","content":"…"}]}\n',
            }
        },
    },
    **_NO_FILE,
    410: {"description": "`artifact_damaged`: the stored lines are damaged or lost.", "model": OpenAiErrorBody},
}


class OpenAiFileRoute(OpenAiRoute):
    """An `OpenAiRoute` whose body is a file: the route streams it, and only the server limits its size."""

    max_bytes = None


def router(owners: OwnerLookup, files: OpenAiFiles, uploads: Turns) -> APIRouter:
    """Build the routes."""
    routes = APIRouter(
        prefix="/files",
        tags=["files"],
        route_class=OpenAiFileRoute,
        responses=OPENAI_RESPONSES,
        dependencies=authorised(owners, DATASETS),
    )

    @routes.post("", operation_id="createFile", openapi_extra={"requestBody": _BODY})
    async def create_file(request: Request, caller: CallerOf) -> FileObject:
        """Validate chat lines and store them as a dataset; each line has one question and one answer.

        Errors name their lines. `answers` beside `messages` may list further texts that count as right. The field
        `accept` names findings to go on with, by commas.
        """
        async with request.form(max_files=1, max_fields=8) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise RequestInvalid("The form has no file.", hint="Send multipart/form-data.", param="file")
            if purpose != "fine-tune":
                raise RequestInvalid("Files are for fine-tuning here.", hint="Set it to fine-tune.", param="purpose")
            further = sorted(set(form) - {"file", "purpose", "accept"})
            if further:
                raise RequestInvalid(f"{further[0][:100]} is not taken.", hint="Leave it out.", param=further[0][:100])
            name = "".join(character for character in file.filename or "" if character.isprintable())[:_MAX_NAME_LENGTH]
            reading = accepting(form.getlist("accept"))
            return await uploads.run(caller.team, files.add, file.file, reading, name=name or None, team=caller.team)

    @routes.get("", operation_id="listFiles")
    def list_files(
        caller: CallerOf,
        limit: Annotated[int, Query(ge=1, le=_LARGEST_LIMIT, description="A page has 500 at most.")] = 100,
        after: Annotated[PlainText | None, Query(max_length=100)] = None,
        order: Order = "desc",
        purpose: Annotated[PlainText | None, Query(max_length=100, description="All are `fine-tune`.")] = None,
    ) -> FileList:
        """List the team's open-ended datasets."""
        if purpose not in {None, "fine-tune"}:
            return FileList(data=[], first_id=None, last_id=None, has_more=False)
        return files.listed(caller.team, limit=min(limit, MAX_ON_A_PAGE), after=after, order=order)

    @routes.get("/{file_id}", operation_id="getFile", responses=_NO_FILE)
    def get_file(file_id: FileId) -> FileObject:
        """Return one file."""
        return files.find(file_id)

    @routes.delete("/{file_id}", operation_id="deleteFile", responses=_NO_FILE)
    def delete_file(file_id: FileId) -> FileDeleted:
        """Delete a file. The answer is 409 while an unfinished job needs it."""
        files.remove(file_id)
        return FileDeleted(id=file_id)

    @routes.get(
        "/{file_id}/content", operation_id="getFileContent", response_class=StreamingResponse, responses=_CONTENT
    )
    def get_file_content(file_id: FileId) -> StreamingResponse:
        """Return the file's lines, in the form of an upload."""
        lines: Iterator[bytes] = files.content(file_id)
        return StreamingResponse(lines, media_type="application/jsonl")

    return routes
