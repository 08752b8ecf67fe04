"""Shows a team's open-ended datasets as OpenAI's files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import orjson
from sqlmodel import col, select

from craft.contracts.openai.tuning import FileList, FileObject
from craft.contracts.services.datasets import Reading
from craft.contracts.stages.rows import QUESTIONS_FILE, QuestionRow
from craft.core.questions import Task
from craft.errors import ArtifactDamaged, DatasetInvalid, NotFound
from craft.infra.storage.artifacts import ArtifactStore, read_rows
from craft_gateway.datasets.preview import dataset_folder
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.http.bodies import form_codes, validated
from craft_gateway.openai.ids import no_file, openai_id, own_id
from craft_gateway.store.database import Database
from craft_gateway.store.paging import read_page
from craft_gateway.store.tables import Dataset

Order = Literal["asc", "desc"]
_HINT = (
    'Each line is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, with a '
    "system message before them if you like; `answers` may list further texts that count as right."
)


def accepting(fields: Sequence[object]) -> Reading:
    """The reading of chat lines, with the findings that a form's `accept` fields name, by commas."""
    return validated(Reading, {"task": Task.OPEN_ENDED, "accept": form_codes(fields)})


class OpenAiFiles:
    """Files by OpenAI's ids. A team that uploads the same lines again gets the same file, under its first name."""

    def __init__(self, database: Database, datasets: DatasetRegistry, store: ArtifactStore) -> None:
        self._database = database
        self._datasets = datasets
        self._store = store

    def add(self, source: BinaryIO, reading: Reading, *, name: str | None, team: str) -> FileObject:
        """Check chat lines and store them as a dataset. Raises DatasetInvalid with line errors, Unavailable."""
        try:
            row = self._datasets.add_file(source, reading, name=name, team=team, chat_lines=True)
        except DatasetInvalid as error:
            # What is wrong with one line is said in the form of lines; other hints are right as they are.
            if error.details:
                error.hint = _HINT
            error.param = "file"
            raise
        return self._view(row)

    def find(self, file_id: str) -> FileObject:
        """Return one file. Raises NotFound."""
        return self._view(self._row(file_id))

    def listed(self, team: str, *, limit: int, after: str | None, order: Order) -> FileList:
        """Return a page of the team's files. Raises NotFound if `after` is no file's id."""
        query = select(Dataset).where(Dataset.team == team, Dataset.task == Task.OPEN_ENDED)
        column = col(Dataset.id)
        if after is not None:
            last = _dataset_id(after)
            query = query.where(column < last if order == "desc" else column > last)
        with self._database.read() as session:
            page = read_page(session, query.order_by(column.desc() if order == "desc" else column), limit)
        views = [self._view(row) for row in page.rows]
        first, last_id = (views[0].id, views[-1].id) if views else (None, None)
        return FileList(data=views, first_id=first, last_id=last_id, has_more=page.has_more)

    def content(self, file_id: str) -> Iterator[bytes]:
        """Return the file's lines, of which `add` makes the same dataset. Raises NotFound, ArtifactDamaged."""
        return _chat_lines(dataset_folder(self._store, self._row(file_id)) / QUESTIONS_FILE)

    def remove(self, file_id: str) -> None:
        """Delete a file. Raises NotFound, and Conflict if an unfinished job reads it."""
        self._datasets.delete(self._row(file_id).id)

    def _row(self, file_id: str) -> Dataset:
        try:
            row = self._datasets.row(_dataset_id(file_id))
        except NotFound:
            raise no_file() from None
        if row.task is not Task.OPEN_ENDED:
            raise no_file()
        return row

    def _view(self, row: Dataset) -> FileObject:
        view = FileObject(
            id=openai_id(row.id),
            bytes=0,
            created_at=int(row.created_at.timestamp()),
            filename=row.name or f"{row.id}.jsonl",
        )
        try:
            files = self._store.manifest(row.ref).files
        except (NotFound, ArtifactDamaged) as error:
            return view.model_copy(update={"status": "error", "status_details": error.message})
        return view.model_copy(update={"bytes": sum(file.bytes for file in files)})


def _dataset_id(file_id: str) -> str:
    dataset_id = own_id(file_id, "file")
    if dataset_id is None:
        raise no_file()
    return dataset_id


def _chat_lines(questions: Path) -> Iterator[bytes]:
    """Yield a chat line for each row of an open-ended dataset."""
    for row in read_rows(questions, QuestionRow):
        answers = row.answers or [""]
        turns = ({"role": "user", "content": row.question}, {"role": "assistant", "content": answers[0]})
        line: dict[str, object] = {"messages": turns, "id": row.id}
        if len(answers) > 1:
            line["answers"] = answers[1:]
        if row.category is not None:
            line["category"] = row.category
        yield orjson.dumps(line) + b"\n"
