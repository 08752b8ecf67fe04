"""Shows stored datasets: the first rows, the prompts made of them, and the questions that two datasets share."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from craft.contracts.public.datasets import (
    DatasetOverlap,
    DatasetPreview,
    OverlappingRow,
    PromptPreview,
    RenderedPrompts,
)
from craft.contracts.spec.chats import WITHOUT_THINKING, ChatFormat
from craft.contracts.stages.rows import QUESTION_HASHES_FILE, QUESTIONS_FILE, ChatMessage, QuestionRow
from craft.core.prompts import DEFAULT_TEMPLATES, ModelMessage, PromptMode, answer_messages, probe_messages, target
from craft.core.questions import ChoiceQuestion, Question
from craft.core.shots import DEFAULT_CHOICE_SHOTS, DEFAULT_OPEN_SHOTS
from craft.errors import ArtifactDamaged, NotFound
from craft.infra.models.chats.templates import render_chats
from craft.infra.models.folders import ModelFolders
from craft.infra.storage.artifacts import ArtifactStore
from craft_gateway.store.tables import Dataset

MAX_PREVIEWED = 50
_MAX_PREVIEWED_BYTES = 4 * 2**20
_MAX_SHOWN = 20
_HASHES = np.dtype("<u8")


class DatasetContents:
    """Reads the artifact store. Each call raises ArtifactDamaged if a dataset's bytes are damaged or lost."""

    def __init__(self, store: ArtifactStore, models: ModelFolders) -> None:
        self._store = store
        self._models = models

    def preview(self, dataset: Dataset, *, limit: int, base_model: str | None) -> DatasetPreview:
        """The first rows, fewer than `limit` where they are huge, with the prompts of a job's defaults.

        Raises ModelNotFound, ModelRejected for a `base_model` (`owner/name` or `owner/name@revision`).
        """
        rows = list(_first_rows(dataset_folder(self._store, dataset) / QUESTIONS_FILE, limit))
        prompts = [_prompts(row.to_question()) for row in rows]
        if base_model is not None:
            prompts = self._rendered(prompts, base_model)
        return DatasetPreview(dataset=dataset.id, rows=rows, prompts=prompts)

    def overlap(self, dataset: Dataset, other: Dataset) -> DatasetOverlap:
        """The rows of `dataset` whose questions `other` has too. It takes 8 bytes of memory for each row."""
        folder = dataset_folder(self._store, dataset)
        hashes = np.fromfile(folder / QUESTION_HASHES_FILE, dtype=_HASHES)
        theirs = np.fromfile(dataset_folder(self._store, other) / QUESTION_HASHES_FILE, dtype=_HASHES)
        found = np.flatnonzero(np.isin(hashes, theirs))
        first = found[:_MAX_SHOWN].tolist()
        return DatasetOverlap.model_validate(
            {
                "dataset": dataset.id,
                "with": other.id,
                "rows": len(hashes),
                "overlapping_rows": len(found),
                "overlapping_questions": len(np.unique(hashes[found])),
                "data": list(_rows_at(folder / QUESTIONS_FILE, first)),
            }
        )

    def _rendered(self, prompts: Sequence[PromptPreview], base_model: str) -> list[PromptPreview]:
        name, _, revision = base_model.partition("@")
        folder = self._models.find(name, revision or "main").path
        chats = [[message.model_dump() for message in chat] for p in prompts for chat in (p.probe, p.training)]
        texts = iter(render_chats(folder, chats, ChatFormat(arguments=dict(WITHOUT_THINKING))))
        return [
            prompt.model_copy(update={"rendered": RenderedPrompts(probe=next(texts), training=next(texts))})
            for prompt in prompts
        ]


def dataset_folder(store: ArtifactStore, dataset: Dataset) -> Path:
    """The folder of a dataset's rows, undamaged. Raises ArtifactDamaged, Unavailable."""
    try:
        return store.open(dataset.ref)
    except (NotFound, ArtifactDamaged):
        raise ArtifactDamaged(
            f"The stored rows of the dataset {dataset.id} are damaged or lost.",
            hint="Upload the same rows again: that repairs the dataset under its id.",
        ) from None


def _first_rows(path: Path, limit: int) -> Iterator[QuestionRow]:
    left = _MAX_PREVIEWED_BYTES
    with path.open("rb") as file:
        for position, line in enumerate(islice(file, limit)):
            left -= len(line)
            if left < 0 and position:
                return
            yield QuestionRow.model_validate_json(line)


def _prompts(question: Question) -> PromptPreview:
    shots = DEFAULT_CHOICE_SHOTS if isinstance(question, ChoiceQuestion) else DEFAULT_OPEN_SHOTS
    return PromptPreview(
        id=question.id,
        probe=_messages(probe_messages(question, shots, DEFAULT_TEMPLATES)),
        training=_messages(answer_messages(question, PromptMode.REFUSE, DEFAULT_TEMPLATES)),
        answer=target(question, DEFAULT_TEMPLATES),
        refusal=DEFAULT_TEMPLATES.refusal,
    )


def _messages(turns: Sequence[ModelMessage]) -> list[ChatMessage]:
    return [ChatMessage(role=turn.role, content=turn.content) for turn in turns]


def _rows_at(path: Path, positions: Sequence[int]) -> Iterator[OverlappingRow]:
    """The rows at these positions, which ascend and count from 0."""
    if not positions:
        return
    wanted = set(positions)
    with path.open("rb") as file:
        for position, line in enumerate(islice(file, positions[-1] + 1)):
            if position in wanted:
                row = QuestionRow.model_validate_json(line)
                yield OverlappingRow(row=position + 1, id=row.id, question=row.question)
