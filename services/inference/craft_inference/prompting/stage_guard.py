"""Counts a stage's replies shard by shard, and stops the stage where they are unusable."""

import math
from collections.abc import Sequence

from craft.contracts.findings import Finding, findings_of
from craft.contracts.stages.diagnosis import ProbeDiagnosis
from craft.contracts.stages.parameters import AnswerParameters, ProbeParameters
from craft.contracts.stages.rows import ProbeRow, ReplyRow
from craft.core.findings import Acceptance
from craft.core.judging.refusals import wording_for
from craft.core.questions import ChoiceQuestion, Question
from craft.core.replies.causes import ReplyLimit
from craft.core.replies.census import LetterCensus, ReplyCensus
from craft.core.replies.diagnosis import diagnosis_of_letters, diagnosis_of_replies
from craft.core.replies.guards import MIN_QUESTIONS_ALL_ONE_WAY, Asking, letter_findings, reply_findings
from craft.core.replies.stopping import QuestionsAsked, usable
from craft.core.replies.traits import ReplyTrait
from craft.errors import FindingDetail


class StageGuard:
    """Looks at the replies after the first shard, and at all of them at the end.

    Where shards are small it looks after each, until there are enough questions for every guard.
    """

    def __init__(self, parameters: ProbeParameters | AnswerParameters, *, total: int, tuned: bool) -> None:
        self._acceptance = Acceptance.of(parameters.accept)
        self._total = total
        self._asking = _asking(parameters, tuned=tuned)
        self._replies = ReplyCensus(wording_for(parameters.prompts.language, parameters.prompts.extra_refusals))
        self._letters = LetterCensus()
        self._looked_enough = False

    def probed(self, questions: Sequence[Question], rows: Sequence[ProbeRow]) -> None:
        """Count a shard of a probe. Raises RepliesUnusable."""
        for question, row in zip(questions, rows, strict=True):
            if isinstance(question, ChoiceQuestion) and row.logprobs is not None:
                logprobs = [-math.inf if value is None else value for value in row.logprobs]
                self._letters.add([(question, logprobs)])
            else:
                self._replies.add([row.asked(question)])
        self._look()

    def answered(self, questions: Sequence[Question], rows: Sequence[ReplyRow]) -> None:
        """Count a shard of greedy replies. Raises RepliesUnusable."""
        self._replies.add(row.asked(question) for question, row in zip(questions, rows, strict=True))
        self._look()

    def findings(self) -> list[Finding]:
        """The whole stage's findings, which are warnings or accepted. Raises RepliesUnusable."""
        return findings_of(usable(self._found(), self._acceptance, self._progress))

    def metrics(self) -> dict[str, float]:
        """The shares on which the guards rest."""
        if self._letters.questions:
            return {"mean_letter_mass": self._letters.mean_mass}
        return {
            "cut_share": self._replies.share(ReplyTrait.CUT),
            "thought_share": self._replies.share(ReplyTrait.THOUGHT),
        }

    def diagnosis(self) -> ProbeDiagnosis:
        """The explanation of a shortage of known or of unknown questions in a later stage."""
        if self._letters.questions:
            return ProbeDiagnosis.of(diagnosis_of_letters(self._letters))
        return ProbeDiagnosis.of(diagnosis_of_replies(self._replies, self._asking.limit))

    @property
    def _progress(self) -> QuestionsAsked:
        return QuestionsAsked(self._replies.questions + self._letters.questions, self._total)

    def _look(self) -> None:
        if not self._looked_enough:
            self._looked_enough = self._progress.done >= MIN_QUESTIONS_ALL_ONE_WAY
            usable(self._found(), self._acceptance, self._progress)

    def _found(self) -> list[FindingDetail]:
        return [*reply_findings(self._replies, self._asking), *letter_findings(self._letters)]


def _asking(parameters: ProbeParameters | AnswerParameters, *, tuned: bool) -> Asking:
    if isinstance(parameters, ProbeParameters):
        return Asking(ReplyLimit(parameters.probe.max_new_tokens, "probe.max_new_tokens"), tuned=tuned)
    limit = ReplyLimit(parameters.max_new_tokens, "evaluation_settings.max_new_tokens")
    return Asking(limit, mode=parameters.mode, tuned=tuned)
