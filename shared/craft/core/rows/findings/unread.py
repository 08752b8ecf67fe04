"""Findings about columns from which nothing is read."""

from collections.abc import Collection, Mapping, Sequence

from craft.core.findings import FindingCode
from craft.core.rows.fields import excerpt
from craft.errors import FindingDetail, Severity

_MAX_SHOWN = 20
_CONTEXT = frozenset(
    [
        "abstract",
        "article",
        "background",
        "context",
        "contexts",
        "dialogue",
        "document",
        "documents",
        "evidence",
        "fact",
        "history",
        "image",
        "input",
        "input_text",
        "knowledge",
        "narrative",
        "paragraph",
        "paragraphs",
        "passage",
        "passages",
        "reference",
        "sentence",
        "snippet",
        "source_text",
        "story",
        "support",
        "table",
        "text",
    ]
)


def unread_findings(filled: Mapping[str, int], read: Collection[str], *, rows: int) -> Sequence[FindingDetail]:
    """The columns that are not among `read`, each once. `filled` are the rows in which a column has content."""
    unread = {name: count for name, count in filled.items() if name not in read and count}
    context = {name: count for name, count in unread.items() if name.strip().casefold() in _CONTEXT}
    found = [
        FindingDetail(
            FindingCode.UNREAD_CONTEXT,
            Severity.WARNING,
            f"`{excerpt(name)}` has content in {count:,} of {rows:,} rows and is not read: the model is asked the "
            "question alone. If a question needs it, the measured knowledge means nothing.",
            hint=f"Put what a question needs into its text, or leave out the rows that need `{excerpt(name)}`.",
            field=excerpt(name),
            count=count,
        )
        for name, count in context.items()
    ]
    others = [name for name in unread if name not in context]
    if others:
        names = ", ".join(f"`{excerpt(name)}`" for name in others[:_MAX_SHOWN])
        more = f" and {len(others) - _MAX_SHOWN} more" if len(others) > _MAX_SHOWN else ""
        found.append(
            FindingDetail(
                FindingCode.UNREAD_COLUMNS,
                Severity.WARNING,
                f"Columns that are not read: {names}{more}.",
                hint="If one of them is the question, an answer, the options, the id or the category, map it with "
                "`columns`.",
                count=len(others),
            )
        )
    return found
