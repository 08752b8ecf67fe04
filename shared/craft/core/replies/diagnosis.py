"""A probe's explanation of a shortage: what was seen, the most likely reason, what to change, and samples."""

from dataclasses import dataclass

from craft.core.replies.causes import (
    Cause,
    ReplyLimit,
    cause_of_hits,
    cause_of_letter_hits,
    cause_of_letter_misses,
    cause_of_misses,
)
from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.guards import WARN_LETTER_MASS
from craft.core.replies.traits import ReplyTrait


@dataclass(frozen=True, slots=True)
class ShortageReason:
    """The reason why too few questions are known, or too few unknown, with samples of the replies."""

    cause: Cause
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The counts of a probe, in a sentence, and the reason of each shortage that selection may meet."""

    seen: str
    few_known: ShortageReason
    few_unknown: ShortageReason


def diagnosis_of_replies(census: ReplyCensus, limit: ReplyLimit) -> Diagnosis:
    """The diagnosis of an open-ended probe."""
    counts = census.traits
    return Diagnosis(
        seen=(
            f"Of {census.replies:,} replies to {census.questions:,} questions {counts[ReplyTrait.RIGHT]:,} are right, "
            f"{counts[ReplyTrait.CUT]:,} were cut at {limit.tokens} tokens, {counts[ReplyTrait.THOUGHT]:,} hold a "
            f"thought and {counts[ReplyTrait.REFUSED]:,} refuse."
        ),
        few_known=ShortageReason(
            cause_of_misses(census, limit),
            census.examples(ReplyTrait.NEAR, ReplyTrait.WRONG, ReplyTrait.UNPARSED, ReplyTrait.REFUSED),
        ),
        few_unknown=ShortageReason(cause_of_hits(census), census.examples(ReplyTrait.RIGHT)),
    )


def diagnosis_of_letters(census: LetterCensus) -> Diagnosis:
    """The diagnosis of a multiple-choice probe."""
    return Diagnosis(
        seen=(
            f"The right letter is the most likely one for {census.right:,} of {census.questions:,} questions; the "
            f"offered letters together have a mean probability of {census.mean_mass:.2f}."
        ),
        few_known=ShortageReason(
            cause_of_letter_misses(census, min_mass=WARN_LETTER_MASS), census.examples(right=False)
        ),
        few_unknown=ShortageReason(cause_of_letter_hits(census), census.examples(right=True)),
    )
