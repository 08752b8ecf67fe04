"""Turns an upload into an immutable, content-addressed artifact: the same questions are the same dataset."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from craft.contracts.problems import StageError
from craft.contracts.services.datasets import DatasetStored, Reading
from craft.contracts.stages.artifacts import StageResult, canonical_json
from craft.contracts.stages.rows import QUESTION_HASHES_FILE, QUESTIONS_FILE
from craft.core.questions import Task
from craft.errors import CraftError, DatasetInvalid, DiskFull, ErrorDetail, Internal
from craft.infra.settings.datasets import DatasetsSettings
from craft.infra.storage.artifacts import ArtifactStore
from craft_datasets.reading.reading_child import ReadingOrder, ReadingOutcome

# The largest good uploads take up to 0.74 GiB of addresses and 34 to 120 s (ADR 0012).
_MEMORY_BYTES = 2**30
_CPU_SECONDS = 180
_MAX_OUTPUT_LENGTH = 2000
_log = logging.getLogger("craft.datasets")
Read = Callable[[ReadingOrder], ReadingOutcome]


def read_in_child(order: ReadingOrder) -> ReadingOutcome:
    """Carry out an order in a process with limits of its own. Raises DatasetInvalid if the file exceeds them."""
    child = subprocess.run(
        [sys.executable, "-m", "craft_datasets.reading.reading_child"],
        input=order.model_dump_json().encode(),
        capture_output=True,
        # It parses strangers' bytes; passwords and tokens are none of its business.
        env={name: value for name, value in os.environ.items() if not name.startswith("CRAFT_")},
        check=False,
    )
    try:
        return ReadingOutcome.model_validate_json(child.stdout)
    except ValidationError:
        if child.returncode >= 0 and b"MemoryError" not in child.stderr:
            _log.warning(
                "reading_failed", extra={"output": child.stderr[-_MAX_OUTPUT_LENGTH:].decode(errors="replace")}
            )
            raise Internal("The process that reads uploads failed.", hint="Its output is in the log.") from None
        raise DatasetInvalid(
            "Reading the file took more memory or time than an upload may use.",
            hint="Upload JSONL, or split the file.",
        ) from None


class DatasetIntake:
    """Has files read and checked, and publishes the good ones as artifacts."""

    def __init__(self, store: ArtifactStore, settings: DatasetsSettings, *, read: Read = read_in_child) -> None:
        self._store = store
        self._settings = settings
        self._read = read

    def store_file(self, source: Path, reading: Reading, *, chat_lines: bool = False) -> DatasetStored:
        """Check a file and publish its questions. Raises DatasetInvalid with row errors; nothing is left behind then.

        `chat_lines`: each line is a chat in OpenAI's form.
        """
        task = reading.stored_task
        scratch = self._store.scratch("dataset")
        try:
            outcome = self._read(
                ReadingOrder(
                    source=source,
                    reading=reading,
                    chat_lines=chat_lines,
                    questions=scratch / QUESTIONS_FILE,
                    question_hashes=scratch / QUESTION_HASHES_FILE,
                    max_rows=self._settings.max_rows,
                    max_line_bytes=self._settings.max_line_bytes,
                    memory_bytes=_MEMORY_BYTES,
                    cpu_seconds=_CPU_SECONDS,
                    parent=os.getpid(),
                )
            )
            if outcome.error is not None:
                raise _raised(outcome.error, outcome.error_counts)
            if outcome.statistics is None:
                raise DatasetInvalid("Reading the file gave no result.")
            manifest = self._store.publish(
                scratch,
                key=_dataset_key(scratch / QUESTIONS_FILE, task),
                kind="dataset",
                parameters={"task": task.value},
                inputs={},
                result=StageResult(counts={"rows": outcome.statistics.rows}, findings=outcome.findings),
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        found = outcome.statistics
        return DatasetStored(ref=manifest.ref, task=task, rows=found.rows, statistics=found, findings=outcome.findings)


def _dataset_key(questions: Path, task: Task) -> str:
    with questions.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(canonical_json({"kind": "dataset", "task": task.value, "questions": digest})).hexdigest()


def _raised(error: StageError, counts: Mapping[str, int]) -> CraftError:
    """The child's error as an exception. All but a full disk and a defect of the child are the file's fault."""
    kind = {DiskFull.code: DiskFull, Internal.code: Internal}.get(error.code)
    if kind is not None:
        return kind(error.message, hint=error.hint)
    details = [ErrorDetail(message=e.message, field=e.field, line=e.line, excerpt=e.excerpt) for e in error.errors]
    findings = [finding.to_detail() for finding in error.findings]
    return DatasetInvalid(
        error.message, hint=error.hint, param=error.param, details=details, error_counts=counts, findings=findings
    )
