"""Traits of one reply and of one question that a census counts."""

import re
from enum import StrEnum

from craft.core.judging.answers import Outcome, judge, matches
from craft.core.judging.text import tokens
from craft.core.judging.wordings.base import RefusalWording
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question
from craft.core.replies.reply import FinishReason
from craft.core.replies.thoughts import has_thought, sounds_like_a_thought

_CONTROL_TOKEN = re.compile(
    r"<\|[\w ./-]{1,40}\|>|</?s>|<(?:eos|bos|pad|unk|end_of_turn|start_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>|<\uff5c[^\uff5c]{1,40}\uff5c>"
)
_NEXT_TURN = re.compile(
    r"(?:^|\n|\W)(?:user|assistant|system|human)(?:\n|:)|\n(?:Q|Question|User|Human|Instruction)\s*:|<\|\w+\|>",
    re.IGNORECASE,
)
_MIN_SQUEEZED = 3
"""Shorter texts are inside longer ones by chance."""


class ReplyTrait(StrEnum):
    """A property of one reply. RIGHT, WRONG, REFUSED and UNPARSED are the outcomes; a reply has one of them."""

    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"
    UNPARSED = "unparsed"
    CUT = "cut"
    """Ended by the limit of new tokens."""
    THOUGHT = "thought"
    """Holds a marked thought."""
    MUSING = "musing"
    """Begins as an unmarked thought does."""
    EMPTY = "empty"
    """Has no visible character."""
    RUNS_ON = "runs_on"
    """Goes on after its end: with another turn, or with text that is glued to a right answer."""
    NEAR = "near"
    """Not right, but the same letters and digits as a right answer are in it, or it is part of a right answer."""


class QuestionTrait(StrEnum):
    """A property of one question, or of all replies to it."""

    ANY_RIGHT = "any_right"
    ALL_RIGHT = "all_right"
    CONTROL_TOKENS = "control_tokens"
    """A control token is in an accepted answer."""
    LETTER_ANSWER = "letter_answer"
    """The accepted answer of an open-ended question is one of the letters A to E."""
    ANSWER_IN_QUESTION = "answer_in_question"
    """The question's text holds an accepted answer."""


def reply_traits(
    reply: str, finish: FinishReason, question: Question, *, wording: RefusalWording
) -> frozenset[ReplyTrait]:
    """All traits of one reply."""
    outcome = judge(reply, question, wording=wording).outcome
    present = {
        ReplyTrait(outcome.value): True,
        ReplyTrait.CUT: finish is FinishReason.LENGTH,
        ReplyTrait.THOUGHT: has_thought(reply),
        ReplyTrait.MUSING: sounds_like_a_thought(reply),
        ReplyTrait.EMPTY: not reply.strip(),
        ReplyTrait.RUNS_ON: bool(_NEXT_TURN.search(reply)) or _glued(reply, question),
        ReplyTrait.NEAR: outcome in {Outcome.WRONG, Outcome.UNPARSED} and _near(reply, question),
    }
    return frozenset(trait for trait, is_present in present.items() if is_present)


def question_traits(question: Question, *, right: int, replies: int) -> frozenset[QuestionTrait]:
    """All traits of a question with `right` right replies of `replies`."""
    present = {
        QuestionTrait.ANY_RIGHT: right > 0,
        QuestionTrait.ALL_RIGHT: right == replies,
    }
    if isinstance(question, OpenQuestion):
        present |= {
            QuestionTrait.CONTROL_TOKENS: any(_CONTROL_TOKEN.search(answer) for answer in question.answers),
            QuestionTrait.LETTER_ANSWER: all(
                re.fullmatch(r"\(?[A-E][).]?", answer.strip()) for answer in question.answers
            ),
            QuestionTrait.ANSWER_IN_QUESTION: matches(question.question, question.answers) is not None,
        }
    return frozenset(trait for trait, is_present in present.items() if is_present)


def _near(reply: str, question: Question) -> bool:
    if isinstance(question, ChoiceQuestion):
        return False
    said = _squeezed(reply)
    first = _squeezed(next((line for line in reply.splitlines() if line.strip()), ""))
    for answer in question.answers:
        for form in (_squeezed(answer), _squeezed(_CONTROL_TOKEN.sub("", answer))):
            if len(form) >= _MIN_SQUEEZED and form in said:
                return True
            if len(first) > _MIN_SQUEEZED and first in form:
                return True
    return False


def _glued(reply: str, question: Question) -> bool:
    if isinstance(question, ChoiceQuestion):
        return False
    said = reply.strip().casefold()
    starts = [answer.casefold() for answer in question.answers if said.startswith(answer.casefold())]
    return any(len(start) >= _MIN_SQUEEZED and said[len(start) : len(start) + 1].isalpha() for start in starts)


def _squeezed(text: str) -> str:
    return "".join(tokens(text))
