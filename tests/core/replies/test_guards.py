"""The guards: replies and letters that trip each, what does not, and the words of a stop."""

import math
from collections.abc import Callable

import pytest
from tests.core.replies.replying import (
    ADAPTER,
    BASIC,
    PROBE,
    REFUSE,
    capital,
    census,
    choice_census,
    letter_census,
    mixed,
)

from craft.core.findings import Acceptance, FindingCode
from craft.core.replies import guards
from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.guards import GUARD_CODES, Asking, letter_findings, reply_findings
from craft.core.replies.stopping import QuestionsAsked, usable
from craft.errors import FindingDetail, RepliesUnusable, Severity

FIRST_SHARD = QuestionsAsked(100, 800)
REFUSAL = "I don't know."


def errors(found: list[FindingDetail]) -> list[str]:
    """The codes that stop a stage."""
    return [each.code for each in found if each.severity is Severity.ERROR]


def warnings(found: list[FindingDetail]) -> list[str]:
    return [each.code for each in found if each.severity is Severity.WARNING]


def thinking(number: int) -> str:
    return f"<think>\nOkay, the user wants the capital of Land{number}."


TRIPPED: dict[FindingCode, tuple[ReplyCensus, Asking]] = {
    FindingCode.REPLIES_CUT: (census(cut=lambda n: n % 100 < 51), PROBE),
    FindingCode.REPLIES_WITH_THOUGHTS: (census(lambda n: thinking(n) if n % 100 < 21 else mixed(n)), PROBE),
    FindingCode.REPLIES_EMPTY: (census(lambda n: " \n" if n % 100 < 51 else mixed(n)), PROBE),
    FindingCode.REPLIES_UNPARSED: (choice_census(lambda n: "As an AI, well" if n % 100 < 51 else "B"), BASIC),
    FindingCode.REPLIES_ALIKE: (census(lambda n: "Nowhere" if n % 100 < 91 else capital(n)), PROBE),
    FindingCode.NO_REPLY_RIGHT: (census(lambda n: f"Village{n}", questions=60), PROBE),
    FindingCode.EVERY_REPLY_RIGHT: (census(capital, questions=60), PROBE),
}
LETTERS_TRIPPED: dict[FindingCode, LetterCensus] = {
    FindingCode.LETTERS_IMPROBABLE: letter_census(lambda n: (math.log(0.1), math.log(0.05 + 0.1 * (n % 2)))),
    FindingCode.NO_REPLY_RIGHT: letter_census(lambda _: (math.log(0.9), math.log(0.1)), questions=60),
    FindingCode.EVERY_REPLY_RIGHT: letter_census(lambda _: (math.log(0.1), math.log(0.9)), questions=60),
}


def test_plausible_replies_give_no_finding() -> None:
    for asking in (PROBE, BASIC, REFUSE, ADAPTER):
        assert reply_findings(census(), asking) == []
    assert letter_findings(letter_census(lambda n: (math.log(0.5), math.log(0.3 + 0.2 * (n % 2) + 1e-9)))) == []


def test_nothing_asked_gives_no_finding() -> None:
    assert reply_findings(census(questions=0), PROBE) == []
    assert letter_findings(LetterCensus()) == []


@pytest.mark.parametrize("code", TRIPPED)
def test_each_guard_of_replies_stops_the_stage_it_is_made_for(code: FindingCode) -> None:
    found = reply_findings(*TRIPPED[code])
    assert errors(found) == [code]
    assert 1 <= len(found[0].examples) <= 3
    assert all(len(example) <= 120 for example in found[0].examples)
    with pytest.raises(RepliesUnusable):
        usable(found, Acceptance(), FIRST_SHARD)
    assert usable(found, Acceptance.of([code]), FIRST_SHARD)[0].accepted


@pytest.mark.parametrize("code", LETTERS_TRIPPED)
def test_each_guard_of_letters_stops_the_stage_it_is_made_for(code: FindingCode) -> None:
    found = letter_findings(LETTERS_TRIPPED[code])
    assert errors(found) == [code]
    assert 1 <= len(found[0].examples) <= 3
    assert all(len(example) <= 120 for example in found[0].examples)


def test_every_guard_has_replies_that_trip_it() -> None:
    assert set(TRIPPED) | set(LETTERS_TRIPPED) == GUARD_CODES


MUTANTS: list[tuple[str, float, FindingCode]] = [
    ("STOP_CUT", 1.0, FindingCode.REPLIES_CUT),
    ("STOP_THOUGHTS", 1.0, FindingCode.REPLIES_WITH_THOUGHTS),
    ("STOP_EMPTY", 1.0, FindingCode.REPLIES_EMPTY),
    ("STOP_UNPARSED", 1.0, FindingCode.REPLIES_UNPARSED),
    ("STOP_ALIKE", 1.0, FindingCode.REPLIES_ALIKE),
    ("MIN_QUESTIONS_ALL_ONE_WAY", 10**9, FindingCode.NO_REPLY_RIGHT),
    ("MIN_QUESTIONS_ALL_ONE_WAY", 10**9, FindingCode.EVERY_REPLY_RIGHT),
    ("STOP_LETTER_MASS", 0.0, FindingCode.LETTERS_IMPROBABLE),
]


@pytest.mark.parametrize(("bound", "off", "code"), MUTANTS)
def test_a_guard_taken_out_is_noticed(
    monkeypatch: pytest.MonkeyPatch, bound: str, off: float, code: FindingCode
) -> None:
    """Each bound is moved out of reach once: the replies that trip its guard then stop nothing."""
    monkeypatch.setattr(guards, bound, off)
    for tripped in (TRIPPED.get(code), LETTERS_TRIPPED.get(code)):
        if isinstance(tripped, tuple):
            assert code not in errors(reply_findings(*tripped))
        elif tripped is not None:
            assert code not in errors(letter_findings(tripped))


JUST_BELOW: list[tuple[ReplyCensus, Asking, list[FindingCode]]] = [
    (census(cut=lambda n: n % 100 < 50), PROBE, [FindingCode.REPLIES_CUT]),
    (census(cut=lambda n: n % 100 < 5), PROBE, []),
    (census(lambda n: thinking(n) if n % 100 < 20 else mixed(n)), PROBE, [FindingCode.REPLIES_WITH_THOUGHTS]),
    (census(lambda n: "" if n % 100 < 50 else mixed(n)), PROBE, [FindingCode.REPLIES_EMPTY]),
    (census(lambda n: "Nowhere" if n % 100 < 90 else capital(n)), PROBE, []),
    (census(lambda n: f"Village{n}", questions=59), PROBE, []),
    (census(capital, questions=59), PROBE, []),
]


@pytest.mark.parametrize(("counted", "asking", "codes"), JUST_BELOW)
def test_up_to_its_bound_a_guard_warns_or_is_silent(
    counted: ReplyCensus, asking: Asking, codes: list[FindingCode]
) -> None:
    found = reply_findings(counted, asking)
    assert errors(found) == []
    assert warnings(found) == codes


def test_a_few_questions_never_stop_a_stage() -> None:
    found = reply_findings(census(thinking, questions=29, cut=lambda _: True), PROBE)
    assert errors(found) == []
    assert set(warnings(found)) == {FindingCode.REPLIES_CUT, FindingCode.REPLIES_WITH_THOUGHTS}
    assert errors(letter_findings(letter_census(lambda _: (-9.0, -9.0), questions=29))) == []


@pytest.mark.parametrize("asking", [REFUSE, ADAPTER])
def test_a_model_that_may_refuse_may_refuse_everything(asking: Asking) -> None:
    found = reply_findings(census(lambda _: REFUSAL), asking)
    assert errors(found) == []
    assert warnings(found) == [FindingCode.REPLIES_ALIKE]


def test_refusing_every_question_of_a_probe_stops_it() -> None:
    found = reply_findings(census(lambda _: REFUSAL), PROBE)
    assert FindingCode.REPLIES_ALIKE in errors(found)
    assert REFUSAL in found[0].examples[0]


def test_a_tuned_model_that_answers_all_wrong_is_a_result_and_no_fault() -> None:
    assert reply_findings(census(lambda n: f"Village{n}"), ADAPTER) == []


def test_a_tuned_model_that_never_ends_its_turn_stops() -> None:
    assert errors(reply_findings(census(cut=lambda _: True), ADAPTER)) == [FindingCode.REPLIES_CUT]


def test_unparsed_replies_of_a_tuned_model_are_its_result() -> None:
    found = reply_findings(choice_census(lambda _: "As an AI, well"), ADAPTER)
    assert errors(found) == []
    assert FindingCode.REPLIES_UNPARSED in warnings(found)


def test_one_reply_that_is_often_right_is_a_guess_and_no_fault() -> None:
    yes_or_no: Callable[[int], str] = lambda n: "yes" if n % 2 else "no"  # noqa: E731 - an answer in a table
    found = reply_findings(census(lambda _: "Yes.", answer=yes_or_no), PROBE)
    assert errors(found) == []
    assert warnings(found) == [FindingCode.REPLIES_ALIKE]


def test_a_letter_in_a_cut_reply_is_an_answer() -> None:
    found = reply_findings(choice_census(lambda n: "AB"[n % 2] + ". Because", cut=lambda _: True), BASIC)
    assert errors(found) == []
    assert warnings(found) == [FindingCode.REPLIES_CUT]


def test_a_baseline_that_is_always_right_only_warns() -> None:
    found = reply_findings(census(capital), BASIC)
    assert errors(found) == []
    assert warnings(found) == [FindingCode.EVERY_REPLY_RIGHT]


def test_letters_of_middling_probability_warn() -> None:
    found = letter_findings(letter_census(lambda n: (math.log(0.2), math.log(0.1 + 0.2 * (n % 2)))))
    assert errors(found) == []
    assert warnings(found) == [FindingCode.LETTERS_IMPROBABLE]


def test_a_stop_says_where_why_what_to_change_and_shows_three_samples() -> None:
    found = reply_findings(census(thinking, cut=lambda _: True), PROBE)
    with pytest.raises(RepliesUnusable) as raised:
        usable(found, Acceptance(), FIRST_SHARD)
    stop = raised.value
    assert stop.message.startswith("Stopped after 100 of 800 questions. 100\u00a0% of 100 replies were cut")
    assert "Most likely the model thinks before it answers" in stop.message
    assert stop.message.count("“<think>\\nOkay") == 3
    assert stop.hint is not None
    assert stop.hint.startswith("Switch the thought off in base_model.chat_template_arguments")
    assert '"accept": ["replies_cut", "replies_with_thoughts", "no_reply_right"]' in stop.hint
    assert stop.param == "probe.max_new_tokens"
    assert stop.findings == tuple(found)
    assert (stop.status, stop.code, stop.fault, stop.retryable) == (422, "replies_unusable", "user", False)


def test_accepting_one_error_leaves_the_others() -> None:
    found = reply_findings(census(thinking, cut=lambda _: True), PROBE)
    with pytest.raises(RepliesUnusable, match="hold a thought"):
        usable(found, Acceptance.of([FindingCode.REPLIES_CUT]), FIRST_SHARD)
