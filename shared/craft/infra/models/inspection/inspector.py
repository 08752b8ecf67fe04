"""Has a job's rows inspected with the model's own tokenizer, in a process of its own; remembers the results."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import NamedTuple

from pydantic import ValidationError

from craft.contracts.spec.jobs import (
    EvaluationSettings,
    JobSpec,
    ProbeSettings,
    RehearsalSettings,
    TrainingSettings,
)
from craft.contracts.stages.rows import QUESTIONS_FILE
from craft.core.strategies import Strategy
from craft.infra.models.chats.templates import TriedTemplate
from craft.infra.models.inspection.child import RowInspector
from craft.infra.models.inspection.documents import InspectedSet, Inspection, InspectionRequest

SECONDS = 8.0
_WAIT_SECONDS = 45.0
_AT_ONCE = 2
MAX_REMEMBERED = 500
_MIN_TOKENIZER_BYTES = 256
_MAX_HERE_BYTES = 2**20
_log = logging.getLogger("craft.models")


class _NotInspected(NamedTuple):
    """Nothing was found out, for a reason that passes."""

    reason: str


class Inspections:
    """Inspects rows: two processes at a time, each for seconds; results are remembered."""

    def __init__(
        self, *, seconds: float = SECONDS, at_once: int = _AT_ONCE, wait_seconds: float = _WAIT_SECONDS
    ) -> None:
        """`seconds` of processor time that reading rows and counting tokens may take.

        Where `at_once` processes run, the next inspection waits for `wait_seconds` at most.
        """
        self._seconds = seconds
        self._slots = BoundedSemaphore(at_once)
        self._wait_seconds = wait_seconds
        self._lock = Lock()
        self._known: dict[str, Inspection] = {}
        self._specs: set[str] = set()
        """The specifications of what is known."""

    def is_known(self, spec: JobSpec) -> bool:
        """True if rows for such a specification were inspected before, so that `inspect` is quick."""
        with self._lock:
            return relevant(spec).model_dump_json() in self._specs

    def inspect(
        self,
        spec: JobSpec,
        folder: Path,
        sets: Mapping[str, Path],
        *,
        own: str,
        context: int,
        template: TriedTemplate | None,
    ) -> Inspection:
        """Inspect the sets, by name, for a job on the model in `folder`; `own` is the name of the job's own dataset.

        What could not be looked at in time, or for want of a tokenizer that can be read, is said in the result.
        """
        request = InspectionRequest(
            spec=relevant(spec),
            sets=[InspectedSet(name=name, folder=path, own=name == own) for name, path in sets.items()],
            tokenizer=_tokenizer(folder) if template else None,
            template=template.text if template else "",
            variables=template.variables if template else {},
            after_reply=template.traits.end if template else "",
            context_length=context,
            seconds=self._seconds,
        )
        key = f"{_version(request.tokenizer)} {request.model_dump_json()}"
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = self._inspect(request)
        if isinstance(found, _NotInspected):
            # The machine was busy, so the next request tries again.
            return Inspection(unread=found.reason, complete=False)
        self._remember(key, request.spec, found)
        return found

    def _remember(self, key: str, spec: JobSpec, found: Inspection) -> None:
        with self._lock:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
                self._specs.clear()
            self._known[key] = found
            self._specs.add(spec.model_dump_json())

    def _inspect(self, request: InspectionRequest) -> "Inspection | _NotInspected":
        size = sum((each.folder / QUESTIONS_FILE).stat().st_size for each in request.sets)
        if request.tokenizer is None and size <= _MAX_HERE_BYTES:
            # Nothing of the model's is read, and a few rows take milliseconds: no process is needed.
            return RowInspector(request).inspect()
        if not self._slots.acquire(timeout=self._wait_seconds):
            return _NotInspected("Other jobs' rows are being looked at just now.")
        try:
            return _in_child(request.model_dump_json())
        finally:
            self._slots.release()


def relevant(spec: JobSpec) -> JobSpec:
    """The specification without what no row depends on: jobs that differ in nothing else share an inspection."""
    flow = next((strategy for strategy in spec.strategies if strategy.needs_flow), Strategy.COR_RAIT)
    return JobSpec(
        base_model=spec.base_model,
        dataset=spec.dataset,
        task=spec.task,
        strategies=[flow],
        evaluation=spec.evaluation,
        probe=ProbeSettings(max_new_tokens=spec.probe.max_new_tokens, shots=spec.probe.shots),
        rehearsal=RehearsalSettings(training=TrainingSettings(max_length=spec.rehearsal.training.max_length)),
        training=TrainingSettings(max_length=spec.training.max_length),
        evaluation_settings=EvaluationSettings(max_new_tokens=spec.evaluation_settings.max_new_tokens),
        prompts=spec.prompts,
    )


def _tokenizer(folder: Path) -> Path | None:
    path = folder / "tokenizer.json"
    return path if path.is_file() and path.stat().st_size >= _MIN_TOKENIZER_BYTES else None


def _version(tokenizer: Path | None) -> str:
    """Another text where the file was replaced: what was counted with the old one no longer holds."""
    if tokenizer is None:
        return ""
    status = tokenizer.stat()
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _in_child(request: str) -> "Inspection | _NotInspected":
    try:
        child = subprocess.run(
            [sys.executable, "-m", "craft.infra.models.inspection.child"],
            input=request.encode(),
            capture_output=True,
            # The child gets no passwords and tokens, and one thread.
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CRAFT_")},
                "TOKENIZERS_PARALLELISM": "false",
                "RAYON_NUM_THREADS": "1",
            },
            timeout=_WAIT_SECONDS,
            check=False,
        )
        return Inspection.model_validate_json(child.stdout)
    except subprocess.TimeoutExpired:
        return _NotInspected("Looking at the rows took too long.")
    except ValidationError:
        output = child.stderr[-2000:].decode(errors="replace")
        _log.warning("row_inspection_failed", extra={"output": output, "returncode": child.returncode})
        return Inspection(unread="The model's tokenizer takes more time or memory than it may.", complete=False)
