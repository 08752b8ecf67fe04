"""`python -m craft_datasets.reading.reading_child`: reads an upload in a process of its own, with hard limits.

A hostile file (a bomb, 2 GB in a Parquet file of 200 KB) can then exhaust this process and nothing else. The order
comes as JSON on standard input, and the outcome goes as JSON to standard output.
"""

import resource
import sys
from pathlib import Path

from pydantic import BaseModel, Field

from craft.contracts.findings import Finding, findings_of
from craft.contracts.problems import StageError
from craft.contracts.services.datasets import DatasetStatistics, Reading
from craft.contracts.stages.rows import QUESTION_HASH_BYTES, QuestionRow
from craft.core.questions import Question
from craft.errors import CraftError, DatasetInvalid
from craft.infra.process.error_mapping import error_of
from craft.infra.process.parent_death import die_with_parent
from craft_datasets.reading.formats import read_raw
from craft_datasets.reading.validation import validate


class ReadingOrder(BaseModel):
    """A file to read, the files to write, and the process's own limits."""

    source: Path
    reading: Reading
    chat_lines: bool = False
    questions: Path
    question_hashes: Path
    max_rows: int
    max_line_bytes: int
    memory_bytes: int
    cpu_seconds: int
    parent: int
    """The id of the process that waits for the outcome. The child dies with it."""


class ReadingOutcome(BaseModel):
    """Either the statistics and findings of a good file or the error of a bad one."""

    statistics: DatasetStatistics | None = None
    findings: list[Finding] = Field(default_factory=list)
    error: StageError | None = None
    error_counts: dict[str, int] = Field(default_factory=dict)


def read(order: ReadingOrder) -> ReadingOutcome:
    """Check the file and write its questions. Every failure that the file causes is an outcome."""
    try:
        with order.questions.open("wb") as questions, order.question_hashes.open("wb") as hashes:

            def write(question: Question, found: int) -> None:
                questions.write(QuestionRow.of(question).model_dump_json(exclude_none=True).encode() + b"\n")
                hashes.write(found.to_bytes(QUESTION_HASH_BYTES, "little"))

            rows = read_raw(
                order.source,
                max_line_bytes=order.max_line_bytes,
                columns=order.reading.column_map,
                chat_lines=order.chat_lines,
            )
            checked = validate(rows, reading=order.reading, max_rows=order.max_rows, sink=write)
        return ReadingOutcome(statistics=checked.statistics, findings=findings_of(checked.findings))
    except CraftError as error:
        counts = error.error_counts if isinstance(error, DatasetInvalid) else {}
        return ReadingOutcome(error=StageError.of(error), error_counts=counts)
    except MemoryError:
        too_large = DatasetInvalid(
            "Reading the file took more memory than an upload may use.", hint="Upload JSONL, or split the file."
        )
        return ReadingOutcome(error=StageError.of(too_large))
    except OSError as error:
        # It comes from the disk that the questions are written to, not from the file that is read.
        return ReadingOutcome(error=StageError.of(error_of(error)))


def main() -> None:
    """Read one order, limit this process, and carry the order out."""
    order = ReadingOrder.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent)
    resource.setrlimit(resource.RLIMIT_AS, (order.memory_bytes, order.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_seconds, order.cpu_seconds))
    sys.stdout.buffer.write(read(order).model_dump_json().encode())


if __name__ == "__main__":
    main()
