"""Inspects a job's rows in a process with hard limits: `python -m craft.infra.models.inspection.child`.

A tokenizer and a chat template come with the model and are not trusted. The request is JSON on standard input, the
result is JSON on standard output.
"""

import heapq
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from craft.contracts.stages.rows import QUESTION_HASHES_FILE, QUESTIONS_FILE, QuestionRow
from craft.core.prompts import probe_messages, templates_from
from craft.core.questions import Task, letters
from craft.core.rows.fields import excerpt
from craft.core.rows.question_hashes import question_hash
from craft.core.rows.split import question_identity
from craft.infra.models.inspection.chat_tokenizer import ChatTokenizer, readable_special
from craft.infra.models.inspection.documents import (
    MAX_LONG_ROWS,
    EndToken,
    InspectedSet,
    Inspection,
    InspectionRequest,
    KnownShot,
    LongRow,
    MarkedRow,
    RefusingRow,
)
from craft.infra.models.inspection.lengths import RowLengths, max_tokens_of
from craft.infra.models.inspection.limits import shots_of
from craft.infra.models.inspection.marks import Refusals, SpecialTokens, marked_row, refusing_row

_MEMORY_BYTES = 2 * 2**30
_MAX_COUNTED = 50_000
"""Rows, the longest ones, whose tokens are counted."""
_MAX_SHOWN = 20
_ROWS_BETWEEN_LOOKS = 1024


class _OutOfTime(Exception):
    """The time for reading and counting is over; what was found until then counts."""


@dataclass
class _Found:
    """The findings so far."""

    unread: str | None = None
    complete: bool = True
    rows: dict[str, int] = field(default_factory=dict)
    long: list[LongRow] = field(default_factory=list)
    marked: list[MarkedRow] = field(default_factory=list)
    marked_rows: Counter[str] = field(default_factory=Counter)
    refusing: list[RefusingRow] = field(default_factory=list)
    refusing_rows: Counter[str] = field(default_factory=Counter)
    shots: list[KnownShot] = field(default_factory=list)
    highest_id: int | None = None
    end: EndToken | None = None
    letter: str | None = None
    header: str = ""


class RowInspector:
    """One inspection. It reads each set once, and goes back to the rows that may be too long."""

    def __init__(self, request: InspectionRequest) -> None:
        self._request = request
        self._templates = templates_from(request.spec.prompts.templates)
        self._refusals = Refusals(request.spec, self._templates)
        self._found = _Found()
        self._ends_at = time.process_time() + request.seconds
        self._tokenizer = self._read_tokenizer()
        special = [*request.tokens, *(self._tokenizer.special_tokens() if self._tokenizer else ())]
        self._special = SpecialTokens(readable_special(special))
        self._lengths = self._measure()

    def inspect(self) -> Inspection:
        """Inspect the sets. `complete` is false where time ran out."""
        if self._tokenizer is not None:
            self._found.end = self._tokenizer.end_of_turn(self._request.after_reply)
        if self._tokenizer is not None:
            self._found.highest_id = self._tokenizer.highest_id()
        try:
            for each in self._request.sets:
                self._inspect_set(each)
                if each.own:
                    self._find_shots(each.folder)
        except _OutOfTime:
            self._found.complete = False
        return Inspection(**vars(self._found))

    def _read_tokenizer(self) -> ChatTokenizer | None:
        request = self._request
        if request.tokenizer is None:
            self._found.unread = "The model has no tokenizer.json that could be read."
            return None
        try:
            return ChatTokenizer(request.tokenizer, request.template, request.variables)
        except Exception:  # the library raises plain Exceptions
            self._found.unread = "The model's tokenizer.json cannot be read here."
            return None

    def _measure(self) -> RowLengths | None:
        if self._tokenizer is None:
            return None
        request = self._request
        return RowLengths(self._tokenizer, request.spec, self._templates, request.context_length)

    def _inspect_set(self, each: InspectedSet) -> None:
        path, most = each.folder / QUESTIONS_FILE, 0
        room = self._lengths.room(own=each.own) if self._lengths else None
        longest: list[tuple[int, int, int]] = []
        offset = rows = 0
        with path.open("rb") as file:
            for rows, line in enumerate(file, start=1):
                self._look(each.name, rows, line)
                if room is not None and (size := max_tokens_of(line)) > room:
                    heapq.heappush(longest, (size, -rows, offset))
                    if len(longest) > _MAX_COUNTED:
                        heapq.heappop(longest)
                        self._found.complete = False
                if self._tokenizer is not None and self._request.spec.task is Task.MULTIPLE_CHOICE:
                    most = max(most, len(QuestionRow.model_validate_json(line).choices or ()))
                offset += len(line)
                if rows % _ROWS_BETWEEN_LOOKS == 0:
                    self._check_time()
        self._found.rows[each.name] = rows
        if most and self._found.letter is None:
            self._check_letters(path, most)
        self._count(each, sorted(longest, reverse=True))

    def _look(self, name: str, number: int, line: bytes) -> None:
        """Search one row for special tokens and refusals."""
        if token := self._special.found(line):
            self._found.marked_rows[name] += 1
            if len(self._found.marked) < _MAX_SHOWN:
                self._found.marked.append(marked_row(name, number, token))
        if refusal := self._refusals.found(line):
            self._found.refusing_rows[name] += 1
            if len(self._found.refusing) < _MAX_SHOWN:
                self._found.refusing.append(refusing_row(name, number, refusal))

    def _count(self, each: InspectedSet, longest: Sequence[tuple[int, int, int]]) -> None:
        """Count the tokens of the longest rows, the longest first."""
        if self._lengths is None:
            return
        with (each.folder / QUESTIONS_FILE).open("rb") as file:
            for counted, (_, negative, offset) in enumerate(longest):
                file.seek(offset)
                row = QuestionRow.model_validate_json(file.readline())
                self._found.long.extend(self._lengths.long_rows(each.name, -negative, row, own=each.own))
                if len(self._found.long) > MAX_LONG_ROWS:
                    raise _OutOfTime
                if counted % _ROWS_BETWEEN_LOOKS == 0:
                    self._check_time()

    def _check_letters(self, path: Path, most: int) -> None:
        """The first of `most` letters that is not one token at the start of a reply, as the engines ask for it."""
        tokenizer, spec = self._tokenizer, self._request.spec
        if tokenizer is None:
            return
        with path.open("rb") as file:
            question = QuestionRow.model_validate_json(file.readline()).to_question()
        messages = probe_messages(question, shots_of(spec), self._templates)
        start = tokenizer.text(messages)
        before = tokenizer.ids(start)
        for letter in letters(most):
            after = tokenizer.ids(start + letter)
            if after[: len(before)] != before or len(after) != len(before) + 1:
                header = start.rpartition(messages[-1].content.strip())[2].lstrip()
                self._found.letter, self._found.header = letter, header[-100:]
                return

    def _find_shots(self, folder: Path) -> None:
        """The few-shot examples that are rows of the job's own dataset too."""
        path = folder / QUESTION_HASHES_FILE
        if not path.is_file():
            return
        hashes = array("Q")
        hashes.frombytes(path.read_bytes())
        if sys.byteorder == "big":
            hashes.byteswap()
        wanted = {question_hash(shot.question) for shot in shots_of(self._request.spec)}
        places = [at for at, hashed in enumerate(hashes) if hashed in wanted]
        self._found.shots.extend(_shots_at(folder / QUESTIONS_FILE, places[:_MAX_SHOWN]))

    def _check_time(self) -> None:
        if time.process_time() > self._ends_at:
            raise _OutOfTime


def _shots_at(path: Path, places: Sequence[int]) -> Iterator[KnownShot]:
    """The rows at these places, which ascend and count from 0."""
    if not places:
        return
    wanted = set(places)
    with path.open("rb") as file:
        for at, line in enumerate(file):
            if at in wanted:
                row = QuestionRow.model_validate_json(line)
                identity = question_identity(row.to_question())
                yield KnownShot(line=at + 1, question=excerpt(row.question), identity=identity)
            if at >= places[-1]:
                return


def main() -> None:
    """Read one request, set this process's limits and answer the request."""
    request = InspectionRequest.model_validate_json(sys.stdin.buffer.read())
    cpu = int(request.seconds) + 10
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    sys.stdout.write(RowInspector(request).inspect().model_dump_json())


if __name__ == "__main__":
    main()
