"""Computes the report's numbers, `report.json`, from the artifacts of a job."""

from collections.abc import Iterator, Mapping, Sequence

from craft.contracts.documents.evaluation import INITIAL_BASIC, INITIAL_REFUSE
from craft.contracts.documents.report import (
    Comparison,
    DroppedExample,
    KnowledgeSummary,
    ReplyExample,
    ReportDocument,
    ReportFinding,
    ReportSet,
    SelectionSummary,
    SetRole,
    StageCost,
    TrainingSummary,
)
from craft.contracts.stages.names import HELD_OUT, REHEARSAL, which_of
from craft.contracts.stages.rows import CurveRow, Decision, DecisionRow, OutcomeRow, QuestionRow
from craft.core.evaluated import Evaluated
from craft.core.judging.answers import Outcome
from craft.core.questions import id_hash, letters
from craft.core.strategies import Strategy
from craft.errors import Severity
from craft_scoring.metric_views import differences
from craft_scoring.report.comparisons import pairs, verdict
from craft_scoring.report.inputs import JobResults

EXAMPLES_OF_A_REASON = 5
EXAMPLES_OF_A_KIND = 3


def report_document(results: JobResults) -> ReportDocument:
    """All numbers of the report."""
    job = results.parameters.job
    return ReportDocument(
        task=results.parameters.task,
        strategies=results.strategies,
        job=job,
        sets=[_set(results, name) for name in results.evaluated],
        knowledge=_knowledge(results),
        selection={name: _selection(results, name) for name in results.strategies},
        training={stage: _training(rows) for stage, rows in results.curves.items() if rows},
        cost=list(_costs(results)),
        examples={name: _examples(results, name) for name in results.strategies},
        findings=_findings(results),
        notes=[f"{stage}: {note}" for stage, manifest in results.manifests.items() for note in manifest.result.notes],
        versions=_versions(results),
    )


def outcomes_by_model(results: JobResults, name: str) -> dict[str, list[OutcomeRow]]:
    """Judged replies on one set: M0 under both prompts (equal in all evaluations), then each strategy."""
    first = results.outcomes[results.strategies[0]].get(name, [])
    outcomes = {model: [row for row in first if row.model == model] for model in (INITIAL_BASIC, INITIAL_REFUSE)}
    for strategy in results.strategies:
        outcomes[strategy] = [row for row in results.outcomes[strategy].get(name, []) if row.model == strategy]
    return outcomes


def _set(results: JobResults, name: str) -> ReportSet:
    documents = results.evaluations
    first = next(iter(documents.values()))
    models = {INITIAL_BASIC: first.sets[name].initial_basic, INITIAL_REFUSE: first.sets[name].initial_refuse}
    models |= {strategy: documents[strategy].sets[name].candidate for strategy in results.strategies}
    return ReportSet(
        name=name,
        role=SetRole.HELD_OUT if name == HELD_OUT else SetRole.OUT_OF_DOMAIN,
        questions=len(results.evaluated[name]),
        models=models,
        comparisons=_comparisons(results, name),
    )


def _comparisons(results: JobResults, name: str) -> list[Comparison]:
    settings = next(iter(results.evaluations.values()))
    rows = {
        model: [Evaluated(row.id, row.outcome, row.category) for row in outcomes]
        for model, outcomes in outcomes_by_model(results, name).items()
    }
    comparisons = []
    for model, against in pairs(results.strategies):
        difference = differences(
            rows[model], rows[against], rows[INITIAL_BASIC], resamples=settings.resamples, seed=settings.seed
        )
        sentence = verdict(model, against, difference)
        comparisons.append(Comparison(model=model, against=against, differences=difference, verdict=sentence))
    return comparisons


def _knowledge(results: JobResults) -> KnowledgeSummary:
    before, after, flow = list(results.before.values()), list(results.after.values()), list(results.flow.values())
    masses = [state.letter_mass for state in before if state.letter_mass is not None]
    return KnowledgeSummary(
        questions=len(before),
        mean_correctness=_mean([state.correctness for state in before]) or 0.0,
        mean_certainty=_mean([state.certainty for state in before]) or 0.0,
        never_right=sum(state.correctness == 0 for state in before),
        always_right=sum(state.correctness == 1 for state in before),
        mean_letter_mass=_mean(masses),
        rehearsed_mean_correctness=_mean([state.correctness for state in after]),
        improved=sum(row.correctness > 0 for row in flow) if flow else None,
        worsened=sum(row.correctness < 0 for row in flow) if flow else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _selection(results: JobResults, strategy: str) -> SelectionSummary:
    decisions = results.decisions[strategy].values()
    dropped: dict[str, list[DecisionRow]] = {}
    for row in decisions:
        if row.decision is Decision.DROPPED:
            dropped.setdefault(row.reason.value if row.reason else "not_drawn", []).append(row)
    reasons = dict(sorted(dropped.items()))
    return SelectionSummary(
        van=sum(row.decision is Decision.VAN for row in decisions),
        idk=sum(row.decision is Decision.IDK for row in decisions),
        dropped={reason: len(rows) for reason, rows in reasons.items()},
        examples=[
            DroppedExample(
                id=row.id,
                question=results.train[row.id].question,
                reason=reason,
                state=results.before[row.id],
                flow=results.flow.get(row.id),
            )
            for reason, rows in reasons.items()
            for row in sorted(rows, key=lambda row: id_hash(row.id, salt="dropped"))[:EXAMPLES_OF_A_REASON]
        ],
    )


def _training(rows: Sequence[CurveRow]) -> TrainingSummary:
    return TrainingSummary(
        steps=rows[-1].step, first_loss=rows[0].loss, last_loss=rows[-1].loss, seconds=rows[-1].seconds
    )


def _costs(results: JobResults) -> Iterator[StageCost]:
    rehearsing = [strategy for strategy in results.strategies if Strategy(strategy).needs_flow]
    for stage, manifest in results.manifests.items():
        which = which_of(stage)
        all_strategies = rehearsing if stage in REHEARSAL else results.strategies
        cost = manifest.result.cost
        yield StageCost(
            stage=stage,
            seconds=cost.seconds,
            prompt_tokens=cost.prompt_tokens,
            prefilled_tokens=cost.prefilled_tokens,
            generated_tokens=cost.generated_tokens,
            trained_tokens=cost.trained_tokens,
            shared_by=[which] if which in results.strategies else all_strategies,
        )


def _examples(results: JobResults, strategy: str) -> list[ReplyExample]:
    """A few replies of each kind, chosen by a hash of the question's id, so that no hand picked them."""
    models = outcomes_by_model(results, HELD_OUT)
    initial = {row.id: row for row in models[INITIAL_BASIC]}
    kinds: dict[str, list[ReplyExample]] = {"right": [], "refused": [], "over_refused": [], "wrong": []}
    for row in sorted(models[strategy], key=lambda row: id_hash(row.id, salt="replies")):
        kind: str = row.outcome.value
        if row.outcome is Outcome.REFUSED and initial[row.id].outcome is Outcome.RIGHT:
            kind = "over_refused"
        if len(kinds.get(kind, [None] * EXAMPLES_OF_A_KIND)) < EXAMPLES_OF_A_KIND:
            kinds[kind].append(_example(kind, results.evaluated[HELD_OUT][row.id], initial[row.id], row))
    return [example for examples in kinds.values() for example in examples]


def _example(kind: str, question: QuestionRow, initial: OutcomeRow, row: OutcomeRow) -> ReplyExample:
    return ReplyExample.model_validate(
        {
            "kind": kind,
            "id": question.id,
            "question": question.question,
            "accepted": _accepted(question),
            "initial_reply": initial.reply,
            "reply": row.reply,
        }
    )


def _accepted(question: QuestionRow) -> list[str]:
    if question.choices is not None and question.answer is not None:
        return [f"{letters(len(question.choices))[question.answer]}. {question.choices[question.answer]}"]
    return list(question.answers or [])


def _findings(results: JobResults) -> list[ReportFinding]:
    """All findings, each once: what was known when the job was accepted may have reached a stage as well."""
    sources = [("job", results.parameters.findings)]
    sources += [(stage, manifest.result.findings) for stage, manifest in results.manifests.items()]
    first: dict[str, ReportFinding] = {}
    for source, found in sources:
        for each in found:
            first.setdefault(each.model_dump_json(), ReportFinding(**each.model_dump(), source=source))
    return sorted(first.values(), key=lambda each: (not each.accepted, each.severity is not Severity.ERROR))


def _versions(results: JobResults) -> Mapping[str, str]:
    """The versions with which the stages ran; where stages differ, all of them."""
    versions: dict[str, list[str]] = {}
    for manifest in results.manifests.values():
        for name, version in manifest.result.versions.items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    return {name: ", ".join(used) for name, used in sorted(versions.items())}
