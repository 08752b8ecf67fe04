"""Replies of made-up models to made-up questions, for the tests of guards."""

from collections.abc import Callable

from craft.core.judging.wordings.english import ENGLISH
from craft.core.prompts import PromptMode
from craft.core.questions import ChoiceQuestion, OpenQuestion
from craft.core.replies.causes import ReplyLimit
from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.guards import Asking
from craft.core.replies.reply import AskedQuestion, FinishReason

LIMIT = ReplyLimit(16, "probe.max_new_tokens")
PROBE = Asking(LIMIT)
BASIC = Asking(LIMIT, mode=PromptMode.BASIC)
REFUSE = Asking(LIMIT, mode=PromptMode.REFUSE)
ADAPTER = Asking(LIMIT, mode=PromptMode.REFUSE, tuned=True)

Say = Callable[[int], str]


def capital(number: int) -> str:
    """The right answer to question `number`."""
    return f"Town{number}"


def mixed(number: int) -> str:
    """A plausible model: every third question is answered right, the others wrong and each in another way."""
    return f"It is Town{number}." if number % 3 == 0 else f"It is Village{number}."


def census(
    say: Say = mixed,
    *,
    questions: int = 100,
    cut: Callable[[int], bool] = lambda _: False,
    answer: Say = capital,
    ask: Say = lambda number: f"What is the capital of Land{number}?",
) -> ReplyCensus:
    """The census of one reply to each open-ended question."""
    counted = ReplyCensus(ENGLISH)
    for number in range(questions):
        question = OpenQuestion(f"q{number}", ask(number), (answer(number),))
        finish = FinishReason.LENGTH if cut(number) else FinishReason.STOP
        counted.add([AskedQuestion(question, (say(number),), (finish,))])
    return counted


def choice_census(say: Say, *, questions: int = 100, cut: Callable[[int], bool] = lambda _: False) -> ReplyCensus:
    """The census of greedy replies to multiple-choice questions whose right letter is B."""
    counted = ReplyCensus(ENGLISH)
    for number in range(questions):
        finish = FinishReason.LENGTH if cut(number) else FinishReason.STOP
        counted.add([AskedQuestion(choice(number), (say(number),), (finish,))])
    return counted


def letter_census(
    logprobs: Callable[[int], tuple[float, float]], *, questions: int = 100, answer: Callable[[int], int] = lambda _: 1
) -> LetterCensus:
    """The census of letters A and B."""
    counted = LetterCensus()
    counted.add([(choice(number, answer(number)), logprobs(number)) for number in range(questions)])
    return counted


def choice(number: int, answer: int = 1) -> ChoiceQuestion:
    """A question with two options."""
    return ChoiceQuestion(f"c{number}", f"Which is number {number}?", ("left", "right"), answer)
