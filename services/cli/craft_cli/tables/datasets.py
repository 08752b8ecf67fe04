"""Datasets in a terminal: their list, origin, first rows and overlap."""

from collections.abc import Iterator, Sequence

from craft.contracts.public.datasets import DatasetOverlap, DatasetPreview, DatasetView, PromptPreview
from craft.contracts.stages.rows import ChatMessage, QuestionRow
from craft_cli.tables.cells import text_table, time_of
from craft_cli.tables.plain import Fit, PlainTable


def datasets(views: Sequence[DatasetView]) -> PlainTable:
    """One row for each dataset."""
    rows = ((v.name, v.task.value, f"{v.rows:,}", len(v.findings), time_of(v.created_at), v.id) for v in views)
    headings = ("name", "task", "rows", "findings", "created", "id")
    return text_table(headings, rows, fits={"created": Fit.IF_ROOM})


def origin(view: DatasetView) -> Iterator[str]:
    """Lines with the source of a fetched dataset, and the columns that were mapped to ours."""
    if view.source is not None:
        version = view.source.revision or view.source.etag
        yield f"from: {view.source.uri}" + (f" ({version})" if version else "")
    columns = {ours: path if isinstance(path, str) else ",".join(path) for ours, path in view.columns.items()}
    mapped = ", ".join(f"{ours}={theirs}" for ours, theirs in columns.items() if ours != theirs)
    if mapped:
        yield f"columns: {mapped}"


def preview(view: DatasetPreview) -> Iterator[PlainTable | str]:
    """The table of rows, and then for each row its prompts and targets."""
    yield text_table(("row", "question", "answers", "category"), (_row(row) for row in view.rows))
    for prompt in view.prompts:
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
    yield f"asked to see what it knows:\n{_indented(probe)}"
    yield f"asked in training:\n{_indented(training)}"
    yield f"taught where it knows: {prompt.answer}"
    yield f"taught where it does not: {prompt.refusal}"


def _chat(messages: Sequence[ChatMessage]) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def overlap(view: DatasetOverlap) -> Iterator[PlainTable | str]:
    """The counts, and the table of the first shared rows."""
    yield (
        f"{view.overlapping_rows:,} of {view.rows:,} rows ask what {view.with_} asks too "
        f"(different questions: {view.overlapping_questions:,})"
    )
    if view.data:
        yield text_table(("number", "row", "question"), ((row.row, row.id, row.question) for row in view.data))
