"""Training rows as token ids, split exactly as the engine splits them: the rendered prompt, then the reply."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from craft.contracts.stages.rows import TrainingRow
from craft.core.findings import FindingCode, lines_finding
from craft.core.rows.errors import MAX_DETAILS
from craft.core.rows.fields import excerpt
from craft.errors import ContextTooLong, DatasetInvalid, ErrorDetail, FindingDetail, Severity
from craft.infra.models.chats.renderer import ChatRenderer

MAX_LEFT_OUT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """One supervised example. The loss is on `tokens[prompt_length:]`: the target and the token that ends the turn.

    `name` and `line` are those of its row in the dataset, where it has any.
    """

    id: str
    tokens: tuple[int, ...]
    prompt_length: int
    name: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Tokenised:
    """The samples, in the rows' order, and a finding for the rows that were left out."""

    samples: list[Sample]
    findings: tuple[FindingDetail, ...] = ()


def tokenise(rows: Sequence[TrainingRow], chat: ChatRenderer, *, max_length: int) -> Tokenised:
    """The rows as samples, in the form of the job's chats.

    Rows of more than `max_length` tokens are left out, since a cut row would teach a reply to half a question. Rows of
    the dataset were measured when the job was accepted; a target of the model's own may be longer. Raises
    DatasetInvalid for no rows, ModelRejected if no token ends a reply, and ContextTooLong if more than 5 % of the rows
    are too long.
    """
    if not rows:
        raise DatasetInvalid("The training set is empty.", hint="Give more rows, or loosen the selection's thresholds.")
    samples = [_sample(row, chat) for row in rows]
    long = [(row, len(each.tokens)) for row, each in zip(rows, samples, strict=True) if len(each.tokens) > max_length]
    if not long:
        return Tokenised(samples)
    if len(long) > MAX_LEFT_OUT_SHARE * len(rows):
        raise _too_long(long, len(rows), max_length)
    finding = lines_finding(
        FindingCode.ROWS_TOO_LONG,
        Severity.WARNING,
        f"{len(long)} of {len(rows):,} training rows have more than {max_length:,} tokens with their target. They were "
        "left out.",
        [(row.line or 0, row.name) for row, _ in long],
        hint="Raise training.max_length.",
        field="training.max_length",
    )
    finding = replace(finding, lines=tuple(line for line in finding.lines if line))
    return Tokenised([each for each in samples if len(each.tokens) <= max_length], (finding,))


def _too_long(long: Sequence[tuple[TrainingRow, int]], rows: int, max_length: int) -> ContextTooLong:
    first, tokens = long[0]
    return ContextTooLong(
        f"{len(long)} of {rows:,} training rows have too many tokens with their target; at most {max_length:,} are "
        f"allowed. The first: {first.name}, {tokens:,} tokens.",
        hint="Shorten or remove these rows, or raise training.max_length where the model's context allows it.",
        param="training.max_length",
        details=[
            ErrorDetail(f"{count:,} tokens.", "question", row.line, excerpt(row.messages[-1].content))
            for row, count in long[:MAX_DETAILS]
        ],
    )


def _sample(row: TrainingRow, chat: ChatRenderer) -> Sample:
    prompt, target = chat.ids([chat.prompt(row.messages), row.target])
    tokens = (*prompt, *target, chat.end_of_turn)
    return Sample(row.id, tokens, prompt_length=len(prompt), name=row.name, line=row.line)
