"""The stage evaluate: judges all replies on all evaluation sets, and measures the candidate against M0."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from craft.contracts.documents.evaluation import (
    INITIAL_BASIC,
    INITIAL_REFUSE,
    EvaluatedSet,
    EvaluationDocument,
)
from craft.contracts.findings import Finding, findings_of
from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.names import HELD_OUT, evaluation_sets
from craft.contracts.stages.parameters import EvaluateParameters
from craft.contracts.stages.rows import (
    EVALUATION_FILE,
    HELD_OUT_FILE,
    OUTCOMES_FILE,
    REPLIES_FILE,
    OutcomeRow,
    QuestionRow,
    ReplyRow,
)
from craft.core.evaluated import Evaluated
from craft.core.findings import MAX_EXAMPLES
from craft.core.judging.answers import Outcome, judge
from craft.core.judging.refusals import wording_for
from craft.core.judging.wordings.base import RefusalWording
from craft.core.replies.gain import gain_finding
from craft.core.replies.reply import FinishReason, reply_excerpt
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_scoring.joins import joined
from craft_scoring.metric_views import differences, measured

_HEADLINE = ("pc", "pw", "pr", "pu", "ths", "over_refusal")


def evaluate(parameters: EvaluateParameters, context: StageContext) -> StageResult:
    """Judge the replies of M0 under both prompts and of the candidate, and measure them on each evaluation set."""
    started = monotonic()
    wording = wording_for(parameters.prompts.language, parameters.prompts.extra_refusals)
    models = {INITIAL_BASIC: "initial_basic", INITIAL_REFUSE: "initial_refuse", parameters.candidate: "candidate"}
    replies = {model: _replies(context.input(role)) for model, role in models.items()}
    sets = {
        name: list(read_rows(context.input(role) / HELD_OUT_FILE, QuestionRow))
        for name, role in evaluation_sets(sorted(context.inputs)).items()
    }
    outcomes: list[OutcomeRow] = []
    measured_sets: dict[str, EvaluatedSet] = {}
    findings: list[Finding] = []
    for done, (name, questions) in enumerate(sets.items()):
        context.progress(done, len(sets))
        judged = {
            model: _judged(name, model, questions, by_set.get(name, []), wording) for model, by_set in replies.items()
        }
        outcomes += [row for rows in judged.values() for row in rows]
        measured_sets[name] = _measured_set(judged, parameters)
        if name == HELD_OUT:
            findings = _gain(questions, judged[INITIAL_BASIC], judged[parameters.candidate])
    write_rows(context.output / OUTCOMES_FILE, outcomes)
    document = EvaluationDocument(
        task=parameters.task,
        candidate=parameters.candidate,
        resamples=parameters.settings.resamples,
        seed=parameters.seed,
        sets=measured_sets,
    )
    (context.output / EVALUATION_FILE).write_text(document.model_dump_json(indent=1), encoding="utf-8")
    context.progress(len(sets), len(sets))
    return StageResult(
        counts={f"questions:{name}": len(questions) for name, questions in sets.items()},
        metrics=_headline(measured_sets[HELD_OUT]),
        findings=findings,
        cost=Cost(seconds=monotonic() - started),
    )


def _replies(folder: Path) -> dict[str, list[ReplyRow]]:
    replies: dict[str, list[ReplyRow]] = {}
    for row in read_rows(folder / REPLIES_FILE, ReplyRow):
        replies.setdefault(row.set, []).append(row)
    return replies


def _judged(
    name: str, model: str, questions: Sequence[QuestionRow], replies: Sequence[ReplyRow], wording: RefusalWording
) -> list[OutcomeRow]:
    rows = []
    for question, reply in zip(questions, joined(questions, replies, what=f"{model} on {name}"), strict=True):
        judgement = judge(reply.reply, question.to_question(), wording=wording)
        rows.append(
            OutcomeRow(
                set=name,
                id=question.id,
                model=model,
                reply=reply.reply,
                finish=reply.finish,
                outcome=judgement.outcome,
                parsed=judgement.parsed,
                category=question.category,
            )
        )
    return rows


def _gain(
    questions: Sequence[QuestionRow], baseline: Sequence[OutcomeRow], candidate: Sequence[OutcomeRow]
) -> list[Finding]:
    """The warning that the candidate's gain comes from replies of M0 that were cut or could not be read."""
    flawed = {row.id: row for row in baseline if row.finish is FinishReason.LENGTH or row.outcome is Outcome.UNPARSED}
    examples = [
        reply_excerpt(question.to_question(), row.reply, cut=row.finish is FinishReason.LENGTH)
        for question in questions
        if (row := flawed.get(question.id))
    ]
    found = gain_finding(
        evaluated(candidate), evaluated(baseline), flawed=flawed.keys(), examples=examples[:MAX_EXAMPLES]
    )
    return findings_of([found]) if found else []


def _measured_set(judged: Mapping[str, Sequence[OutcomeRow]], parameters: EvaluateParameters) -> EvaluatedSet:
    basic, refuse, candidate = (evaluated(rows) for rows in judged.values())
    resamples, seed = parameters.settings.resamples, parameters.seed
    return EvaluatedSet(
        initial_basic=measured(basic, basic, resamples=resamples, seed=seed),
        initial_refuse=measured(refuse, basic, resamples=resamples, seed=seed),
        candidate=measured(candidate, basic, resamples=resamples, seed=seed),
        versus_initial_basic=differences(candidate, basic, basic, resamples=resamples, seed=seed),
        versus_initial_refuse=differences(candidate, refuse, basic, resamples=resamples, seed=seed),
    )


def evaluated(rows: Sequence[OutcomeRow]) -> list[Evaluated]:
    """Judged replies in the form that the core's metrics take."""
    return [Evaluated(row.id, row.outcome, row.category) for row in rows]


def _headline(results: EvaluatedSet) -> dict[str, float]:
    """The metrics for the job's own view, without undefined ones."""
    values = {name: getattr(results.candidate.micro, name).value for name in _HEADLINE}
    return {name: value for name, value in values.items() if value is not None}
