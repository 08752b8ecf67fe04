"""Refuses, before any work, a stage whose prompts do not all fit: never after hours, at the first long row."""

from collections.abc import Iterable, Sequence

from craft.contracts.stages.names import HELD_OUT
from craft.contracts.stages.rows import QuestionRow
from craft.core.rows.fields import excerpt
from craft.errors import ContextTooLong, ErrorDetail
from craft_inference.engine import Engine, Prompt

_MAX_DETAILS = 100


def check_lengths(
    engine: Engine,
    prompts: Iterable[Prompt],
    rows: Sequence[QuestionRow],
    *,
    new_tokens: int,
    setting: str,
    sets: Sequence[str] = (),
) -> int:
    """The context that the prompts with `new_tokens` more need, as `PromptLengths.needed` says.

    Raises ContextTooLong with the rows whose prompt leaves no room.
    `prompts` are those of `rows`, in their order; `sets` has each row's evaluation set, where the stage has several.
    """
    lengths = engine.measure(prompts, new_tokens=new_tokens)
    long = lengths.too_long
    if not long:
        return lengths.needed
    details = [
        ErrorDetail(
            f"The prompt has {each.tokens:,} tokens.",
            field="question",
            line=rows[each.position].line,
            excerpt=excerpt(rows[each.position].question),
        )
        for each in long[:_MAX_DETAILS]
    ]
    first = rows[long[0].position]
    name = sets[long[0].position] if sets else HELD_OUT
    of = "" if name == HELD_OUT else f" of the evaluation set {name}"
    served = "server's" if lengths.longer_context else "model's"
    raise ContextTooLong(
        f"{len(long)} of {len(rows):,} prompts do not fit into the {served} {long[0].limit:,} tokens together with "
        f"{new_tokens:,} new ones. The first: {first.name}{of}, {long[0].tokens:,} tokens.",
        hint=" ".join(filter(None, (f"Shorten or remove these rows, or lower {setting}.", lengths.longer_context))),
        param=setting,
        details=details,
    )
