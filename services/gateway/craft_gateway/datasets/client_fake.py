"""A datasets service in memory, for tests: it takes any lines and checks none."""

import hashlib
from typing import BinaryIO

from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.contracts.services.datasets import DatasetStatistics, DatasetStored, FetchRequest, Reading, SpreadView
from craft.contracts.stages.artifacts import ArtifactRef
from craft.errors import Unavailable

_NO_SPREAD = SpreadView(min=0, median=0, p95=0, max=0)


class FakeDatasetsClient:
    """Counts lines and checks no row; the same bytes are the same dataset. With `down` it does not answer."""

    def __init__(self) -> None:
        self.down = False

    def store_file(
        self,
        file: BinaryIO,
        reading: Reading,
        *,
        team: str = DEFAULT_TEAM,  # noqa: ARG002 - nobody waits
        chat_lines: bool = False,  # noqa: ARG002 - lines are not read
    ) -> DatasetStored:
        """See `DatasetsClient.store_file`."""
        if self.down:
            raise Unavailable("The datasets service does not answer just now.")
        content, rows = hashlib.sha256(reading.stored_task.encode()), 0
        for line in file:
            content.update(line)
            rows += 1
        key = content.hexdigest()
        return DatasetStored(
            ref=ArtifactRef(key=key, digest=hashlib.sha256(key.encode()).hexdigest()),
            task=reading.stored_task,
            rows=rows,
            statistics=DatasetStatistics(
                rows=rows,
                categories={},
                duplicate_questions=0,
                answers_per_question=1.0,
                longest_question_characters=0,
                category_count=0,
                duplicate_questions_normalised=0,
                question_characters=_NO_SPREAD,
                answer_characters=_NO_SPREAD,
                answers=_NO_SPREAD,
            ),
        )

    def store_source(self, request: FetchRequest, *, team: str = DEFAULT_TEAM) -> DatasetStored:  # noqa: ARG002 - as above
        """See `DatasetsClient.store_source`. It reaches no source."""
        raise Unavailable(f"The fake fetches nothing from {request.source.kind}.", param="source")
