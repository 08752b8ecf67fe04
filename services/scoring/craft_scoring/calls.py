"""The REST calls as functions: a request model in, a response model out. Errors name the bad rows."""

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
from craft.core.evaluated import Evaluated
from craft.core.flow import flows
from craft.core.judging.answers import judge
from craft.core.judging.refusals import wording_for
from craft.core.knowledge import KnowledgeState
from craft.core.questions import OpenQuestion, Question, Task, letters
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row
from craft.errors import ErrorDetail, MissingStates, RequestInvalid
from craft_scoring.embedding.embedder import Embedder
from craft_scoring.joins import by_id
from craft_scoring.metric_views import differences, measured
from craft_scoring.states import choice_state_row, open_states

MAX_DRAWS = 5_000_000
"""The most bootstrap draws of one request: categories × resamples × models. About three seconds on one core."""
_MAX_DETAILS = 100
RowT = TypeVar("RowT")
ReadT = TypeVar("ReadT")


def judged(request: OpenJudgeRequest | ChoiceJudgeRequest) -> JudgeResponse:
    """Judge each reply. Raises RequestInvalid with the rows that are no questions, or for an unknown language."""
    rows: Sequence[OpenReply | ChoiceReply] = request.rows
    wording = cache(wording_for)
    questions = _read_all(rows, _question)
    judgements = [
        judge(row.reply, question, wording=wording(row.language or request.language))
        for row, question in zip(rows, questions, strict=True)
    ]
    return JudgeResponse(
        rows=[
            JudgedRow(id=row.id, outcome=judgement.outcome, parsed=judgement.parsed)
            for row, judgement in zip(rows, judgements, strict=True)
        ]
    )


def states(request: OpenStatesRequest | ChoiceStatesRequest, embedder: Callable[[], Embedder]) -> StatesResponse:
    """The knowledge state of each row. `embedder` is called only for open-ended rows."""
    if isinstance(request, ChoiceStatesRequest):
        return StatesResponse(rows=_read_all(request.rows, _choice_state))
    sampled = _read_all(request.rows, lambda row: (_open_question(row), row.samples))
    wording = wording_for(request.language)
    return StatesResponse(rows=list(open_states(sampled, embedder=embedder(), wording=wording)))


def flow(request: FlowRequest) -> FlowResponse:
    """The state after minus the state before. Raises RequestInvalid for an id that is not exactly once in each list."""
    try:
        changes = flows(_known(request.before, "before"), _known(request.after, "after"))
    except MissingStates as error:
        raise RequestInvalid(error.message, hint=error.hint, param="after") from error
    return FlowResponse(
        rows=[
            FlowRow(id=name, correctness=change.correctness, certainty=change.certainty)
            for name, change in changes.items()
        ]
    )


def evaluation(request: EvaluateRequest) -> EvaluateResponse:
    """All metrics of the baseline and of each candidate. Raises RequestInvalid if their questions differ."""
    categories = {row.category for rows in (request.baseline, *request.candidates.values()) for row in rows}
    if len(categories) * request.resamples * (len(request.candidates) + 1) > MAX_DRAWS:
        raise RequestInvalid(
            f"{len(categories)} categories times {request.resamples} resamples is too much for one request.",
            hint="Use fewer resamples or candidates, or leave out categories with a single question.",
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
    """Call `read` for each row. Raises RequestInvalid with all rows that it refuses, at most 100 of them in detail."""
    results: list[ReadT] = []
    wrong: list[ErrorDetail] = []
    for number, row in enumerate(rows):
        try:
            results.append(read(row))
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
            details=wrong[:_MAX_DETAILS],
        )
    return results


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
