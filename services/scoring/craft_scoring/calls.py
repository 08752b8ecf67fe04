"""The service's own calls as functions: a request model in, a response model out, bad rows named."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from craft.contracts.documents.evaluation import CandidateMetrics
from craft.contracts.services.scoring import (
    ChoiceJudgeRequest,
    ChoiceLogprobs,
    ChoiceReply,
    ChoiceStatesRequest,
    EvaluatedRow,
    EvaluateRequest,
    EvaluateResponse,
    FlowRequest,
    FlowResponse,
    JudgedRow,
    JudgeResponse,
    KnownState,
    OpenJudgeRequest,
    OpenReply,
    OpenSamples,
    OpenStatesRequest,
    StatesResponse,
)
from craft.contracts.stages.rows import FlowRow, StateRow
from craft.core.flow import flows
from craft.core.judging.answers import judge
from craft.core.judging.refusals import wording_for
from craft.core.knowledge import KnowledgeState
from craft.core.metrics import Evaluated
from craft.core.questions import OpenQuestion, Question, Task, letters
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row
from craft.errors import ErrorDetail, MissingStates, RequestInvalid
from craft_scoring.embedding.embedder import Embedder
from craft_scoring.joins import by_id
from craft_scoring.metric_views import differences, measured
from craft_scoring.states import choice_state_row, open_states

MOST_DRAWS = 5_000_000
"""Bootstrap draws that one request may ask for: categories × resamples × models. About three seconds of one core."""
_MOST_DETAILS = 100
RowT = TypeVar("RowT")
ReadT = TypeVar("ReadT")


def judged(request: OpenJudgeRequest | ChoiceJudgeRequest) -> JudgeResponse:
    """Judge each reply. RequestInvalid names the rows that are no questions, and unknown languages."""
    rows: Sequence[OpenReply | ChoiceReply] = request.rows
    wording = cache(wording_for)
    questions = _read_all(rows, _question)
    judgements = [
        judge(row.reply, question, wording=wording(row.language or request.language))
        for row, question in zip(rows, questions, strict=True)
    ]
    return JudgeResponse(
        rows=[
            JudgedRow(id=row.id, outcome=each.outcome, parsed=each.parsed)
            for row, each in zip(rows, judgements, strict=True)
        ]
    )


def states(request: OpenStatesRequest | ChoiceStatesRequest, embedder: Callable[[], Embedder]) -> StatesResponse:
    """The knowledge state of each row; the embedder is asked for only where open-ended rows need it."""
    if isinstance(request, ChoiceStatesRequest):
        return StatesResponse(rows=_read_all(request.rows, _choice_state))
    asked = _read_all(request.rows, lambda row: (_open_question(row), row.samples))
    wording = wording_for(request.language)
    return StatesResponse(rows=list(open_states(asked, embedder=embedder(), wording=wording)))


def flow(request: FlowRequest) -> FlowResponse:
    """State after minus state before. RequestInvalid where an id is in one list only, or twice in one."""
    try:
        moved = flows(_known(request.before, "before"), _known(request.after, "after"))
    except MissingStates as error:
        raise RequestInvalid(error.message, hint=error.hint, param="after") from error
    return FlowResponse(
        rows=[FlowRow(id=name, correctness=each.correctness, certainty=each.certainty) for name, each in moved.items()]
    )


def evaluation(request: EvaluateRequest) -> EvaluateResponse:
    """Every metric of the baseline and of each candidate. RequestInvalid where they are not over the same questions."""
    categories = {row.category for rows in (request.baseline, *request.candidates.values()) for row in rows}
    if len(categories) * request.resamples * (len(request.candidates) + 1) > MOST_DRAWS:
        raise RequestInvalid(
            f"{len(categories)} categories times {request.resamples} resamples is more than one request may ask for.",
            hint="Ask for fewer resamples or candidates, or leave out categories that hold single questions.",
            param="resamples",
        )
    baseline = _evaluated(request.baseline)
    resamples, seed = request.resamples, request.seed
    try:
        return EvaluateResponse(
            baseline=measured(baseline, baseline, resamples=resamples, seed=seed),
            candidates={
                name: CandidateMetrics(
                    metrics=measured(rows, baseline, resamples=resamples, seed=seed),
                    versus_baseline=differences(rows, baseline, baseline, resamples=resamples, seed=seed),
                )
                for name, rows in ((name, _evaluated(rows)) for name, rows in request.candidates.items())
            },
        )
    except MissingStates as error:
        raise RequestInvalid(error.message, hint=error.hint, param="candidates") from error


def _read_all(rows: Sequence[RowT], read: Callable[[RowT], ReadT]) -> list[ReadT]:
    """`read` for each row; RequestInvalid with every row that it refuses, at most 100 of them in detail."""
    found: list[ReadT] = []
    wrong: list[ErrorDetail] = []
    for number, row in enumerate(rows):
        try:
            found.append(read(row))
        except RowInvalid as error:
            field = f"rows[{number}].{error.field}"
            wrong.append(ErrorDetail(message=error.reason, field=field, line=number + 1, excerpt=error.excerpt))
        except RequestInvalid as error:
            wrong.append(ErrorDetail(message=error.message, field=f"rows[{number}].{error.param}", line=number + 1))
    if wrong:
        raise RequestInvalid(
            f"{len(wrong)} of {len(rows)} rows cannot be used.",
            hint="See errors: each names its row and field.",
            param="rows",
            details=wrong[:_MOST_DETAILS],
        )
    return found


def _question(row: OpenReply | ChoiceReply) -> Question:
    if isinstance(row, OpenReply):
        return _open_question(row)
    content = {"question": "-", "choices": row.choices, "answer": row.answer}
    return question_from_row(content, task=Task.MULTIPLE_CHOICE)


def _open_question(row: OpenReply | OpenSamples) -> OpenQuestion:
    question = question_from_row({"question": "-", "answers": row.answers}, task=Task.OPEN_ENDED)
    return OpenQuestion(id=row.id, question=question.question, answers=tuple(row.answers))


def _choice_state(row: ChoiceLogprobs) -> StateRow:
    offered = letters(len(row.logprobs))
    if set(row.logprobs) != set(offered):
        raise RowInvalid.of("logprobs", f"must name the letters {offered[0]} to {offered[-1]}", sorted(row.logprobs))
    if row.answer not in offered:
        raise RowInvalid.of("answer", "is not among the letters", row.answer)
    return choice_state_row(row.id, [row.logprobs[letter] for letter in offered], offered.index(row.answer))


def _known(rows: Sequence[KnownState], what: str) -> dict[str, KnowledgeState]:
    return {name: KnowledgeState(row.correctness, row.certainty) for name, row in by_id(rows, what=what).items()}


def _evaluated(rows: Sequence[EvaluatedRow]) -> list[Evaluated]:
    return [Evaluated(row.id, row.outcome, row.category) for row in rows]
