"""Guards of the stages that ask a model: where its replies make every later number nonsense, the stage stops.

A guard looks at the counts after the first shard, and again at the whole stage. Its bounds are the constants below;
shared/docs/guards.md explains them. With fewer than `MIN_QUESTIONS` questions it never stops a stage.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from craft.core.findings import FindingCode
from craft.core.prompts import PromptMode
from craft.core.replies.causes import (
    Cause,
    ReplyLimit,
    cause_of_hits,
    cause_of_letter_hits,
    cause_of_letter_misses,
    cause_of_misses,
)
from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.traits import QuestionTrait, ReplyTrait
from craft.errors import FindingDetail, Severity

MIN_QUESTIONS = 30
MIN_QUESTIONS_ALL_ONE_WAY = 60
"""For "none is right" and "all are right": of 60 questions none is right by chance in 5 % of the cases where the model
knows one question of twenty, and in 0.2 % where it knows one of ten."""

WARN_CUT, STOP_CUT = 0.05, 0.5
WARN_THOUGHTS, STOP_THOUGHTS = 0.02, 0.2
WARN_EMPTY, STOP_EMPTY = 0.05, 0.5
WARN_UNPARSED, STOP_UNPARSED = 0.1, 0.5
STOP_ALIKE = 0.9
"""Questions that get one and the same reply."""
ALIKE_MAY_BE_RIGHT = 0.2
"""A reply that is right for this share of the questions is a guess on data with few answers, such as yes and no."""
WARN_LETTER_MASS, STOP_LETTER_MASS = 0.5, 0.2

GUARD_CODES = frozenset(
    {
        FindingCode.REPLIES_CUT,
        FindingCode.REPLIES_WITH_THOUGHTS,
        FindingCode.REPLIES_EMPTY,
        FindingCode.REPLIES_UNPARSED,
        FindingCode.REPLIES_ALIKE,
        FindingCode.LETTERS_IMPROBABLE,
        FindingCode.NO_REPLY_RIGHT,
        FindingCode.EVERY_REPLY_RIGHT,
    }
)
"""The codes of the guards' findings. A job that accepts none of them has the same stages as one that accepts others."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The way in which a stage asks: `mode` None is the probe; `tuned` is true for a model with an adapter."""

    limit: ReplyLimit
    mode: PromptMode | None = None
    tuned: bool = False

    @property
    def scored(self) -> bool:
        """True for the replies from which knowledge is read: a probe, or the untouched model's BASIC answers.

        Elsewhere a model may refuse every question, or fail every one: that is the result, and no fault.
        """
        return self.mode is None or (self.mode is PromptMode.BASIC and not self.tuned)


def reply_findings(census: ReplyCensus, asking: Asking) -> list[FindingDetail]:
    """All that is wrong with the replies, errors first. Errors are warnings where there are too few questions."""
    if not census.questions:
        return []
    found = [*_shares(census, asking), *_alike(census, asking), *_one_way(census, asking)]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)


def letter_findings(census: LetterCensus) -> list[FindingDetail]:
    """All that is wrong with the letters of a multiple-choice probe, errors first."""
    if not census.questions:
        return []
    found = [*_letter_mass(census), *_letters_one_way(census)]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A trait's finding, the shares from which it is a warning and an error, and the words for it."""

    code: FindingCode
    trait: ReplyTrait
    warn: float
    stop: float
    words: str


def _shares(census: ReplyCensus, asking: Asking) -> Iterator[FindingDetail]:
    limit = asking.limit
    all_bounds = [
        _Bounds(
            FindingCode.REPLIES_CUT,
            ReplyTrait.CUT,
            WARN_CUT,
            # A letter is read off a cut reply as well; where it is not, the reply is unparsed.
            STOP_CUT if census.open_questions else 1.0,
            f"were cut at the limit of {limit.tokens} new tokens",
        ),
        _Bounds(
            FindingCode.REPLIES_WITH_THOUGHTS,
            ReplyTrait.THOUGHT,
            WARN_THOUGHTS,
            STOP_THOUGHTS,
            "hold a thought (<think> or the like) beside or instead of an answer",
        ),
        _Bounds(FindingCode.REPLIES_EMPTY, ReplyTrait.EMPTY, WARN_EMPTY, STOP_EMPTY, "are empty"),
        _Bounds(
            FindingCode.REPLIES_UNPARSED,
            ReplyTrait.UNPARSED,
            WARN_UNPARSED,
            # What a tuned model writes instead of an answer is its own result.
            1.0 if asking.tuned else STOP_UNPARSED,
            "hold no answer that could be read",
        ),
    ]
    for bounds in all_bounds:
        share = census.share(bounds.trait)
        # An empty reply is unparsed as well: one finding is enough.
        if share > bounds.warn and not (
            bounds.trait is ReplyTrait.UNPARSED and census.share(ReplyTrait.EMPTY) == share
        ):
            yield _finding(
                bounds.code,
                stops=share > bounds.stop and census.questions >= MIN_QUESTIONS,
                message=f"{_percent(share)} of {census.replies:,} replies {bounds.words}",
                cause=cause_of_misses(census, limit),
                count=census.traits[bounds.trait],
                examples=census.examples(bounds.trait),
                field=limit.field if bounds.code is FindingCode.REPLIES_CUT else None,
            )


def _alike(census: ReplyCensus, asking: Asking) -> Iterator[FindingDetail]:
    reply, count = census.most_alike
    # Letters are alike for a model that prefers one place; that is measured, and no fault of the stage.
    if not census.open_questions or count <= STOP_ALIKE * census.questions or census.questions < MIN_QUESTIONS:
        return
    known = census.question_share(QuestionTrait.ANY_RIGHT) >= ALIKE_MAY_BE_RIGHT
    refuses = census.share(ReplyTrait.REFUSED) > STOP_ALIKE
    yield _finding(
        FindingCode.REPLIES_ALIKE,
        stops=asking.scored and not known,
        message=f"{count:,} of {census.questions:,} questions get one and the same reply (“{reply}”)",
        cause=cause_of_misses(census, asking.limit),
        count=count,
        examples=census.examples(ReplyTrait.REFUSED if refuses else ReplyTrait.WRONG, ReplyTrait.UNPARSED),
    )


def _one_way(census: ReplyCensus, asking: Asking) -> Iterator[FindingDetail]:
    enough = census.questions >= MIN_QUESTIONS_ALL_ONE_WAY
    if not enough or not asking.scored:
        return
    if not census.question_traits[QuestionTrait.ANY_RIGHT]:
        yield _finding(
            FindingCode.NO_REPLY_RIGHT,
            stops=True,
            message=f"None of {census.replies:,} replies to {census.questions:,} questions is right",
            cause=cause_of_misses(census, asking.limit),
            count=census.replies,
            examples=census.examples(ReplyTrait.NEAR, ReplyTrait.WRONG, ReplyTrait.UNPARSED, ReplyTrait.REFUSED),
        )
    if census.question_traits[QuestionTrait.ALL_RIGHT] == census.questions:
        yield _finding(
            FindingCode.EVERY_REPLY_RIGHT,
            # With such a baseline only THS is undefined, and the report says so.
            stops=asking.mode is None,
            message=f"All {census.replies:,} replies to {census.questions:,} questions are right",
            cause=cause_of_hits(census),
            count=census.replies,
            examples=census.examples(ReplyTrait.RIGHT),
        )


def _letter_mass(census: LetterCensus) -> Iterator[FindingDetail]:
    mass = census.mean_mass
    if mass < WARN_LETTER_MASS:
        yield _finding(
            FindingCode.LETTERS_IMPROBABLE,
            stops=mass < STOP_LETTER_MASS and census.questions >= MIN_QUESTIONS,
            message=f"Only {_percent(mass)} of the next token's probability is on the offered letters",
            cause=cause_of_letter_misses(census, min_mass=WARN_LETTER_MASS),
            count=census.questions,
            examples=census.examples(right=False) or census.examples(right=True),
        )


def _letters_one_way(census: LetterCensus) -> Iterator[FindingDetail]:
    if census.questions < MIN_QUESTIONS_ALL_ONE_WAY:
        return
    if not census.right:
        yield _finding(
            FindingCode.NO_REPLY_RIGHT,
            stops=True,
            message=f"The right letter is the most likely one for none of {census.questions:,} questions",
            cause=cause_of_letter_misses(census, min_mass=WARN_LETTER_MASS),
            count=census.questions,
            examples=census.examples(right=False),
        )
    if census.right == census.questions:
        yield _finding(
            FindingCode.EVERY_REPLY_RIGHT,
            stops=True,
            message=f"The right letter is the most likely one for all {census.questions:,} questions",
            cause=cause_of_letter_hits(census),
            count=census.questions,
            examples=census.examples(right=True),
        )


def _finding(
    code: FindingCode,
    *,
    stops: bool,
    message: str,
    cause: Cause,
    count: int,
    examples: tuple[str, ...],
    field: str | None = None,
) -> FindingDetail:
    return FindingDetail(
        code=code,
        severity=Severity.ERROR if stops else Severity.WARNING,
        message=f"{message}. Most likely {cause.reason}.",
        hint=cause.change,
        field=field,
        count=max(1, count),
        examples=examples,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\u00a0%"
