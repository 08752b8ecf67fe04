"""The most likely reason why a model's replies look as they do, and what to change."""

from dataclasses import dataclass

from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.traits import QuestionTrait, ReplyTrait

THOUGHT_SHARE = 0.2
MUSING_SHARE = 0.5
DATA_SHARE = 0.2
"""From this share of questions with bad accepted answers on, the data explain more than the model."""
NEAR_SHARE = 0.3
RUNS_ON_SHARE = 0.3
HALF = 0.5
NEARLY_ALL = 0.9


@dataclass(frozen=True, slots=True)
class Cause:
    """`reason` completes "Most likely …"; `change` says what to do, as a sentence."""

    reason: str
    change: str


@dataclass(frozen=True, slots=True)
class ReplyLimit:
    """The limit of new tokens, and the field of the job that sets it."""

    tokens: int
    field: str


_THINKS = Cause(
    "the model thinks before it answers, so that its thought is judged and not its answer",
    "Switch the thought off in base_model.chat_template_arguments, by the name that the model's chat template reads "
    '(such as "enable_thinking": false), or choose a model that does not think.',
)
_ENDS_AT_ONCE = Cause(
    "the chat template does not fit the model, or it is not an instruct model: it ends its turn at once",
    "Choose an instruct checkpoint, or mend the chat template in the model's folder.",
)
_CONTROL_TOKENS = Cause(
    "accepted answers of the dataset hold control tokens such as <|im_end|>, which no reply holds",
    "Remove the control tokens from the dataset's answers.",
)
_ANSWER_FORM = Cause(
    "the replies hold the answers, but the dataset has them in another form (joined, bracketed or decorated)",
    "Compare the samples with the dataset's accepted answers, and write each answer as a reply would have it.",
)
_OTHER_TASK = Cause(
    "the accepted answers are letters of options, so multiple-choice rows were read as open-ended questions",
    "Upload the rows with `choices` and the task multiple_choice.",
)
_NO_END = Cause(
    "the model does not end its turn: it is not an instruct model, or its template ends turns with another token than "
    "its configuration names",
    "Choose an instruct checkpoint, or name the template's end token as eos_token_id in generation_config.json.",
)
_NAMES_NO_OPTION = Cause(
    "the replies name none of the options: the model does not follow the prompt, or is not an instruct model",
    "Choose an instruct checkpoint, or prompts.templates whose choice_basic and choice_refuse ask more plainly for a "
    "letter.",
)
_REFUSES = Cause(
    "the model refuses most questions", "Look at the samples; choose another model, other shots or other questions."
)
_ALIKE = Cause(
    "the question does not reach the model: it gives one and the same reply",
    "Look at the prompts with a preview: templates, shots and the model's chat template.",
)
_KNOWS_LITTLE = Cause(
    "the model does not know these answers",
    "Choose easier questions or a stronger model; if some replies are right, lower selection.tau or the probe's "
    "temperature.",
)
_KNOWS_ALL = Cause(
    "the questions are easy for this model", "Give harder questions or more of them, or raise selection.tau."
)
_TOLD = Cause(
    "the questions themselves hold the accepted answers, which a reply repeats",
    "Remove the answers from the questions, or make the accepted answers more precise.",
)
_LETTERS_UNLIKELY = Cause(
    "the model's reply does not begin with a letter: it thinks first, is not an instruct model, or writes its letters "
    "with other tokens",
    "Switch a thought off in base_model.chat_template_arguments, use an instruct checkpoint, or prompts.templates "
    "whose choice_basic ends so that a letter comes next.",
)
_KEYS_OFF = Cause(
    "the dataset's answer keys are shifted, for example counted from 1 where they are read from 0",
    "Check the `answer` of a few rows against their options.",
)
_ONE_KEY = Cause(
    "the right option stands at the same place in every row, and the model chooses that place",
    "Shuffle the options of each row.",
)


def cause_of_misses(census: ReplyCensus, limit: ReplyLimit) -> Cause:
    """The most likely reason why few replies are right or can be read. Faults of data and set-up come first."""
    cut = census.share(ReplyTrait.CUT)
    musing = census.traits[ReplyTrait.MUSING] / max(1, census.replies)
    runs_on = census.share(ReplyTrait.RUNS_ON)
    letters = census.question_traits[QuestionTrait.LETTER_ANSWER] / max(1, census.open_questions)
    signs = (
        (census.share(ReplyTrait.THOUGHT) > THOUGHT_SHARE or musing > MUSING_SHARE, _THINKS),
        (census.share(ReplyTrait.EMPTY) > HALF, _ENDS_AT_ONCE),
        (census.question_share(QuestionTrait.CONTROL_TOKENS) > DATA_SHARE, _CONTROL_TOKENS),
        (letters > NEARLY_ALL, _OTHER_TASK),
        (cut > HALF and runs_on > RUNS_ON_SHARE, _NO_END),
        (census.share(ReplyTrait.NEAR) > NEAR_SHARE, _ANSWER_FORM),
        (cut > DATA_SHARE, _limit_too_low(limit)),
        (census.share(ReplyTrait.REFUSED) > HALF, _REFUSES),
        (census.share(ReplyTrait.UNPARSED) > HALF, _NAMES_NO_OPTION),
        (census.most_alike[1] > NEARLY_ALL * max(1, census.questions), _ALIKE),
    )
    return next((cause for present, cause in signs if present), _KNOWS_LITTLE)


def cause_of_hits(census: ReplyCensus) -> Cause:
    """The most likely reason why nearly all replies are right."""
    return _TOLD if census.question_share(QuestionTrait.ANSWER_IN_QUESTION) > HALF else _KNOWS_ALL


def cause_of_letter_misses(census: LetterCensus, *, min_mass: float) -> Cause:
    """The most likely reason why few right letters are the most likely ones, or all letters are unlikely."""
    if census.mean_mass < min_mass:
        return _LETTERS_UNLIKELY
    if census.right < HALF * census.chance:
        return _KEYS_OFF
    return _KNOWS_LITTLE


def cause_of_letter_hits(census: LetterCensus) -> Cause:
    """The most likely reason why nearly every right letter is the most likely one."""
    return _ONE_KEY if len(census.keyed) == 1 else _KNOWS_ALL


def _limit_too_low(limit: ReplyLimit) -> Cause:
    return Cause(f"the limit of {limit.tokens} new tokens is too low for this model's replies", f"Raise {limit.field}.")
