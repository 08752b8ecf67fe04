"""A datasets service in memory, for tests: JSONL and JSON rows only, the same answers and errors."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import orjson

from craft.contracts.services.datasets import DatasetStatistics, DatasetStored, FetchRequest, Reading
from craft.contracts.stages.artifacts import ArtifactRef, canonical_json
from craft.core.questions import OpenQuestion, Task
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row, task_of_row
from craft.errors import DatasetInvalid, ErrorDetail, Unavailable


class FakeDatasetsClient:
    """Keeps what it is given in `stored`, by key. `down` makes it not answer."""

    def __init__(self) -> None:
        self.stored: dict[str, list[Mapping[str, object]]] = {}
        self.down = False

    def store_file(self, file: BinaryIO, reading: Reading) -> DatasetStored:
        """See `DatasetsClient.store_file`."""
        rows = [reading.column_map.apply(orjson.loads(line)) for line in file.read().splitlines()]
        for row in rows:
            task_of_row(row, reading.task)
        return self.store_rows(rows, task=reading.stored_task)

    def store_source(self, request: FetchRequest) -> DatasetStored:
        """See `DatasetsClient.store_source`. It reaches no source."""
        raise Unavailable(f"The fake fetches nothing from {request.source.kind}.", param="source")

    def store_rows(self, rows: Sequence[Mapping[str, object]], *, task: Task) -> DatasetStored:
        """See `DatasetsClient.store_rows`."""
        if self.down:
            raise Unavailable("The datasets service does not answer just now.")
        questions = []
        for line, row in enumerate(rows, start=1):
            try:
                questions.append(question_from_row(row, task=task))
            except RowInvalid as error:
                detail = ErrorDetail(error.reason, field=error.field, line=line, excerpt=error.excerpt)
                raise DatasetInvalid("A row cannot be used.", details=[detail]) from None
        key = hashlib.sha256(canonical_json({"task": task.value, "rows": rows})).hexdigest()
        self.stored[key] = list(rows)
        answers = [len(q.answers if isinstance(q, OpenQuestion) else q.choices) for q in questions]
        return DatasetStored(
            ref=ArtifactRef(key=key, digest=hashlib.sha256(key.encode()).hexdigest()),
            task=task,
            rows=len(rows),
            statistics=DatasetStatistics(
                rows=len(rows),
                categories=Counter(question.category or "" for question in questions),
                duplicate_questions=len(rows) - len({question.question for question in questions}),
                answers_per_question=sum(answers) / max(len(answers), 1),
                longest_question_characters=max((len(question.question) for question in questions), default=0),
            ),
        )
