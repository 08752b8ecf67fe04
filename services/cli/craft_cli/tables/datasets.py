"""What is in a dataset, for a terminal."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from craft.contracts.public.datasets import DatasetOverlap, DatasetPreview, DatasetView, PromptPreview
from craft.contracts.stages.rows import ChatMessage, QuestionRow
from craft_cli.tables.listings import lined


def origin(view: DatasetView) -> Iterator[str]:
    """Where it was fetched from, and which columns were read for ours."""
    if view.source is not None:
        version = view.source.revision or view.source.etag
        yield f"from: {view.source.uri}" + (f" ({version})" if version else "")
    mapped = ", ".join(f"{ours}={theirs}" for ours, theirs in view.columns.items() if ours != theirs)
    if mapped:
        yield f"columns: {mapped}"


def preview(found: DatasetPreview) -> Iterator[Table | str]:
    """The rows, then for each what a model is asked and taught."""
    yield lined(("row", "question", "answers", "category"), (_row(row) for row in found.rows))
    for prompt in found.prompts:
        yield from _prompt(prompt)


def _row(row: QuestionRow) -> Sequence[str | None]:
    if row.choices is None:
        return row.id, row.question, " | ".join(row.answers or ()), row.category
    marked = (f"*{choice}" if number == row.answer else choice for number, choice in enumerate(row.choices))
    return row.id, row.question, " | ".join(marked), row.category


def _prompt(prompt: PromptPreview) -> Iterator[str]:
    probe, training = (
        (_chat(prompt.probe), _chat(prompt.training))
        if prompt.rendered is None
        else (prompt.rendered.probe, prompt.rendered.training)
    )
    yield f"\n{prompt.id}"
    yield f"asked to see what it knows:\n{_inset(probe)}"
    yield f"asked in training:\n{_inset(training)}"
    yield f"taught where it knows: {prompt.answer}"
    yield f"taught where it does not: {prompt.refusal}"


def _chat(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _inset(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def overlap(found: DatasetOverlap) -> Iterator[Table | str]:
    """Counts, and the first rows that both ask."""
    yield (
        f"{found.overlapping_rows:,} of {found.rows:,} rows ask what {found.with_} asks too "
        f"(different questions: {found.overlapping_questions:,})"
    )
    if found.data:
        yield lined(("number", "row", "question"), ((each.row, each.id, each.question) for each in found.data))
