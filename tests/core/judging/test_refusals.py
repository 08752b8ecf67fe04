"""A refusal says that it does not know, and gives no answer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.judging.refusals import (
    MAX_PHRASE_LENGTH,
    MAX_PHRASES,
    RefusalKind,
    is_refusal,
    refusal_kind,
    wording_for,
)
from craft.core.judging.wordings.base import RefusalWording
from craft.errors import RequestInvalid

EXPANDING = "\ufdfa"
"""One character that becomes 18 in the folded text, more than any other."""
ENGLISH, CHINESE = wording_for("en"), wording_for("zh")

REFUSALS = """
I don't know.
I don’t know
I don`t know
I dont know
I DON'T KNOW!
**I don't know.**
"I don't know"
I do not know
We don't know.
I don't know the answer.
I don't know that, sorry.
I don't know who that is.
I don't know who J. K. Rowling is.
I don't know the capital of France, Germany or Spain.
I don't know if it's Paris or Lyon.
I don't know because I never learned it
I don't know. Please provide more context.
I don't know, but I can help you find out.
I don't know, maybe
I don't know, because I have not been there.
I don't know. Because I have not been there.
I don't know, as I have not been there.
As I have not been there, I don't know.
I really don't know for sure.
I'm sorry, but I don't know.
I'm not sure.
I'm not really sure
I am unsure
I am not certain.
I cannot answer that.
I can't answer this question.
Unfortunately, I'm unable to answer.
I have no idea what that is.
Honestly, I have no clue.
I don't have enough information to answer that question.
As an AI language model, I do not have access to that.
Based on the text, I don't know.
Answer: I don't know
I think I don't know
Well... I don't know
No idea
Not sure.
Don't know.
idk
dunno
unknown
Unknown.
The answer is unknown.
It is not known.
There is not enough information to answer.
""".strip().splitlines()

ANSWERS = """
Paris
I know.
Nobody
Not Paris
I don't know much about it, but it is Paris
I don't know but it is Paris
I don't know however it could be Paris
I don't know, maybe Paris
I don't know, Paris
I don't know - Paris
I don't know; Paris
I don't know. The capital is Paris.
I don't know. In Paris.
I don't know the exact name, I think it is Paris
I don't know who that is, it was Napoleon
I don't know, but maybe, Paris
I'm not sure, but I think it's Paris
I'm not sure. Maybe Paris?
Although I don't know for sure, it is Paris
Although I don't know the details, it is Paris.
Although I don't know the details, Paris is right.
I'm not sure. Since 1940
I'm not sure. As early as 1671
Paris, but I'm not sure
Paris. I'm not sure.
In Paris, I think
In Paris. I don't know more.
The answer is unknown, but probably Paris
The song is "I Don't Know"
He said I don't know
The Unknown Soldier
Unknown Pleasures
As an AI language model, Paris
...
""".strip().splitlines()

CHINESE_REFUSALS = """
我不知道
我不知道。
我也不知道
不知道呢
不清楚
我不太清楚
不确定
我不是很确定
我真的不知道
未知
抱歉，我不知道答案。
抱歉我不知道
对不起，我无法回答您的问题
很抱歉，我不清楚这个问题的答案
这个问题我不知道
我无法回答这个问题。
我不知道法国的首都是哪里。
我不知道，请提供更多信息。
我没有听说过这个人
作为一个人工智能语言模型，我无法回答
我無法回答這個問題
我不確定
I don't know.
""".strip().splitlines()

CHINESE_ANSWERS = """
巴黎
我知道
答案是巴黎
我不知道，巴黎
我不知道，但可能是巴黎
我不知道，可能是巴黎
我不确定，也许是巴黎
我不太清楚，应该是巴黎
巴黎，不过我不确定
虽然我不确定，但我认为是巴黎
""".strip().splitlines()


@pytest.mark.parametrize("reply", [*REFUSALS, "I don't know\n\nI am not sure"])
def test_english_refusals(reply: str) -> None:
    assert is_refusal(reply, ENGLISH)


@pytest.mark.parametrize("reply", [*ANSWERS, "", "I don't know\nParis"])
def test_english_answers_are_no_refusals(reply: str) -> None:
    assert not is_refusal(reply, ENGLISH)


@pytest.mark.parametrize("reply", CHINESE_REFUSALS)
def test_chinese_refusals(reply: str) -> None:
    assert is_refusal(reply, CHINESE)


@pytest.mark.parametrize("reply", CHINESE_ANSWERS)
def test_chinese_answers_are_no_refusals(reply: str) -> None:
    assert not is_refusal(reply, CHINESE)


def test_a_spoken_refusal_is_distinguished_from_a_stated_one() -> None:
    assert refusal_kind("I don't know.", ENGLISH) is RefusalKind.SPOKEN
    assert refusal_kind("The answer is unknown.", ENGLISH) is RefusalKind.STATED
    assert refusal_kind("Unknown", ENGLISH) is RefusalKind.STATED
    assert refusal_kind("The answer is unknown. I don't know.", ENGLISH) is RefusalKind.SPOKEN


def test_english_wording_knows_no_chinese() -> None:
    assert not is_refusal("我不知道", ENGLISH)


@pytest.mark.parametrize(
    "part", ["it seems that ", "i must say ", "no idea but ", "? ", "but ", "J. ", "a, ", "不知道但"]
)
def test_a_hostile_reply_is_read_in_linear_time(part: str) -> None:
    started = time.process_time()
    is_refusal(part * 5000 + "x", CHINESE)
    assert time.process_time() - started < 2


def test_a_job_may_add_its_own_refusal() -> None:
    german = wording_for("en", ["Weiß ich nicht."])
    assert is_refusal("Das Wetter", german) is False
    assert is_refusal("weiss ich nicht!", german)
    assert not is_refusal("weiss ich nicht!", ENGLISH)


def test_a_wording_of_one_phrase_is_enough() -> None:
    wording = RefusalWording(language="xx", spoken=("pas",))
    assert is_refusal("Pas.", wording)
    assert not is_refusal("Paris", wording)


def test_an_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(RequestInvalid) as caught:
        wording_for("tlh")
    assert caught.value.param == "language"
    assert "en, zh" in (caught.value.hint or "")


def test_a_phrase_without_a_letter_is_refused() -> None:
    with pytest.raises(RequestInvalid):
        wording_for("en", ["?!"])


@given(st.text(alphabet="I don't know but Paris.,;\n我不知道，。"))
def test_any_reply_can_be_read(reply: str) -> None:
    assert is_refusal(reply, CHINESE) in {True, False}


@given(st.sampled_from(REFUSALS), st.sampled_from(["Lyon", "It is Lyon", "The capital is Lyon"]))
def test_an_answer_in_a_sentence_of_its_own_ends_every_refusal(refusal: str, answer: str) -> None:
    assert not is_refusal(f"{refusal}\n{answer}.", ENGLISH)


@pytest.mark.parametrize("script", ["abcdefghij", "абвгдежзий", "一二三四五六七八九十", "ابتثجحخدذر", "&a", EXPANDING])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_hundred_long_phrases_cost_no_compiling(script: str, language: str) -> None:
    phrases = [f"{number} {script * MAX_PHRASE_LENGTH}"[:MAX_PHRASE_LENGTH] for number in range(MAX_PHRASES)]
    began = time.process_time()
    wording = wording_for(language, phrases)
    assert refusal_kind(phrases[7], wording) is RefusalKind.SPOKEN
    assert time.process_time() - began < 0.5


def test_the_longest_of_the_phrases_that_match_is_taken() -> None:
    wording = wording_for("en", ["pass", "pass on this one", "pass on"])
    assert refusal_kind("Pass on this one.", wording) is RefusalKind.SPOKEN
    assert refusal_kind("Passing on.", wording) is None
