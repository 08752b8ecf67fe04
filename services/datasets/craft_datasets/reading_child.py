"""Read an upload in a process of its own with hard limits: `python -m craft_datasets.reading_child`.

Hostile files (bombs, 2 GB in a 200 KB Parquet) can then exhaust this process and nothing else. The order comes as JSON
on standard input; the outcome goes as JSON to standard output.
"""

import resource
import sys
from pathlib import Path

from pydantic import BaseModel

from craft.contracts.problems import StageError
from craft.contracts.rest_datasets import DatasetFormat, DatasetStatistics
from craft.contracts.rows import QuestionRow
from craft.core.questions import Question, Task
from craft.errors import CraftError, DatasetInvalid
from craft.infra.failures import error_of
from craft_datasets.formats import read_raw
from craft_datasets.validation import validate


class ReadingOrder(BaseModel):
    """What to read, where to write the questions, and the process's own limits."""

    source: Path
    form: DatasetFormat
    task: Task
    output: Path
    max_rows: int
    max_line_bytes: int
    memory_bytes: int
    cpu_seconds: int


class ReadingOutcome(BaseModel):
    """Either the statistics of a good file or the error of a bad one."""

    statistics: DatasetStatistics | None = None
    error: StageError | None = None


def read(order: ReadingOrder) -> ReadingOutcome:
    """Validate the file and write its questions; every failure that the file causes is an outcome."""
    try:
        with order.output.open("wb") as output:

            def keep(question: Question) -> None:
                output.write(QuestionRow.of(question).model_dump_json(exclude_none=True).encode() + b"\n")

            rows = read_raw(order.source, order.form, max_line_bytes=order.max_line_bytes)
            statistics = validate(rows, task=order.task, max_rows=order.max_rows, sink=keep)
        return ReadingOutcome(statistics=statistics)
    except CraftError as error:
        return ReadingOutcome(error=StageError.of(error))
    except MemoryError:
        too_large = DatasetInvalid(
            "Reading the file took more memory than an upload may use.", hint="Upload JSONL, or split the file."
        )
        return ReadingOutcome(error=StageError.of(too_large))
    except OSError as error:
        # The disk where the questions are written, not the file that is read.
        return ReadingOutcome(error=StageError.of(error_of(error)))


def main() -> None:
    """Take one order, limit this process, carry it out."""
    order = ReadingOrder.model_validate_json(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (order.memory_bytes, order.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_seconds, order.cpu_seconds))
    sys.stdout.buffer.write(read(order).model_dump_json().encode())


if __name__ == "__main__":
    main()
