"""A probe's diagnosis in the errors of later stages."""

import pytest

from craft.contracts.stages.diagnosis import ProbeDiagnosis, ShortageView
from craft.contracts.stages.rows import ProbeRow, ReplyRow
from craft.core.questions import OpenQuestion
from craft.core.replies.causes import Cause
from craft.core.replies.diagnosis import Diagnosis, ShortageReason
from craft.core.replies.reply import FinishReason
from craft.errors import RehearsalTooShort, TooFewKnown, TooFewUnknown

DIAGNOSIS = ProbeDiagnosis(
    seen="Of 960 replies to 96 questions 0 are right.",
    few_known=ShortageView(
        reason="the model thinks", change="Switch it off.", samples=["“Q” → “<think>” (right: Rome)"]
    ),
    few_unknown=ShortageView(reason="the questions are easy", change="Ask harder ones.", samples=[]),
)


@pytest.mark.parametrize("kind", [TooFewKnown, RehearsalTooShort])
def test_a_lack_of_known_questions_is_explained_by_the_probe(kind: type[TooFewKnown | RehearsalTooShort]) -> None:
    error = DIAGNOSIS.explained(kind("12 are wanted, but there are 0", hint="lower tau", param="selection"))
    assert type(error) is kind
    assert error.message == (
        "12 are wanted, but there are 0. Of 960 replies to 96 questions 0 are right. Most likely the model thinks. "
        "Samples: “Q” → “<think>” (right: Rome)."
    )
    assert error.hint == "Switch it off. Or: lower tau"
    assert error.param == "selection"
    assert [detail.excerpt for detail in error.details] == ["“Q” → “<think>” (right: Rome)"]


def test_a_lack_of_unknown_questions_has_its_own_reason() -> None:
    error = DIAGNOSIS.explained(TooFewUnknown("9 are wanted."))
    assert error.message == (
        "9 are wanted. Of 960 replies to 96 questions 0 are right. Most likely the questions are easy."
    )
    assert error.hint == "Ask harder ones."


def test_rows_give_their_replies_with_the_ends_and_the_question() -> None:
    question = OpenQuestion("q", "Where?", ("Rome",))
    probed = ProbeRow(id="q", samples=["Rome", "Ro"], finishes=[FinishReason.STOP, FinishReason.LENGTH])
    assert probed.asked(question).finishes == (FinishReason.STOP, FinishReason.LENGTH)
    assert ProbeRow(id="q", samples=["Rome"]).asked(question).finishes == (FinishReason.STOP,)
    cut = ReplyRow(set="held_out", id="q", reply="Ro", finish=FinishReason.LENGTH)
    assert cut.asked(question).replies == ("Ro",)
    assert cut.asked(question).finishes == (FinishReason.LENGTH,)


def test_a_diagnosis_of_the_core_becomes_a_document() -> None:
    few = ShortageReason(Cause("it thinks", "Switch it off."), ("a", "b"))
    document = ProbeDiagnosis.of(Diagnosis("Seen.", few_known=few, few_unknown=few))
    assert document.seen == "Seen."
    assert document.few_known == ShortageView(reason="it thinks", change="Switch it off.", samples=["a", "b"])
