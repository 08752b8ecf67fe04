"""The service's stages by kind: the split, the rehearsal set, a strategy's tuning set."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import RehearsalSetParameters, TuningSetParameters
from craft.contracts.stages.rows import (
    DECISIONS_FILE,
    FLOW_FILE,
    SAMPLES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    TRAINING_FILE,
    Decision,
    DecisionRow,
    FlowRow,
    ProbeRow,
    QuestionRow,
    StateRow,
    TrainingRow,
)
from craft.core.flow import KnowledgeFlow
from craft.core.knowledge import KnowledgeState
from craft.core.rehearsal import default_rehearsal_count, rehearsal_questions
from craft.core.selection import Selection
from craft.infra.stage.context import StageContext, StageFunctions
from craft.infra.stage.diagnosis import explained_by_probe
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_datasets.ingest import ingest
from craft_datasets.selection import choose, rehearsal_rows, tuning_rows


def stage_functions() -> StageFunctions:
    """This service's stages by kind."""
    return {
        StageKind.INGEST: ingest,
        StageKind.REHEARSAL_SET: rehearsal_set,
        StageKind.TUNING_SET: tuning_set,
    }


def rehearsal_set(parameters: RehearsalSetParameters, context: StageContext) -> StageResult:
    """Write the best-known questions with the model's own right answers (method.md, step 3).

    Raises TooFewKnown, explained by the probe.
    """
    asked = list(read_rows(context.input("questions") / TRAIN_FILE, QuestionRow))
    questions = [row.to_question() for row in asked]
    count = parameters.size or default_rehearsal_count(len(questions))
    states = _states(context.input("states"))
    with explained_by_probe(context):
        chosen = rehearsal_questions(
            states,
            count=count,
            threshold=parameters.threshold,
            relax_steps=parameters.relax_steps,
            shortage=parameters.shortage,
        )
    wanted = set(chosen.ids)
    samples = _samples(context.input("probe"))
    rows = rehearsal_rows([q for q in questions if q.id in wanted], samples, parameters.prompts)
    written = write_rows(context.output / TRAINING_FILE, _with_lines(rows, asked))
    return StageResult(
        counts={"rehearse": written, "asked": count},
        metrics={"threshold": chosen.threshold},
        notes=[f"The rehearsal threshold was relaxed to {step:g}." for step in chosen.tried[1:]],
    )


def tuning_set(parameters: TuningSetParameters, context: StageContext) -> StageResult:
    """Write a strategy's van and idk rows, and the decision about each question of the training split.

    Raises TooFewKnown or TooFewUnknown, explained by the probe.
    """
    asked = list(read_rows(context.input("questions") / TRAIN_FILE, QuestionRow))
    questions = [row.to_question() for row in asked]
    flows = _flows(context.inputs["flow"]) if "flow" in context.inputs else None
    states = _states(context.input("states"))
    with explained_by_probe(context):
        selection = choose(
            states,
            flows,
            strategy=parameters.strategy,
            compared_with=parameters.compared_with,
            settings=parameters.selection,
            seed=parameters.seed,
        )
    samples = _samples(context.inputs["probe"]) if "probe" in context.inputs else {}
    rows = tuning_rows(questions, selection, parameters.prompts, samples=samples)
    write_rows(context.output / TRAINING_FILE, _with_lines(rows, asked))
    write_rows(context.output / DECISIONS_FILE, _decisions(selection))
    counts = {"van": len(selection.van), "idk": len(selection.idk), "dropped": len(selection.dropped)}
    for dropped in selection.dropped:
        counts[f"dropped_{dropped.reason}"] = counts.get(f"dropped_{dropped.reason}", 0) + 1
    return StageResult(counts=counts)


def _with_lines(rows: Iterable[TrainingRow], asked: Sequence[QuestionRow]) -> Iterator[TrainingRow]:
    """The rows with the lines of their questions: an error of the training names them."""
    lines = {row.id: row.line for row in asked}
    return (row.model_copy(update={"line": lines[row.id]}) for row in rows)


def _states(folder: Path) -> dict[str, KnowledgeState]:
    rows = read_rows(folder / STATES_FILE, StateRow)
    return {row.id: KnowledgeState(row.correctness, row.certainty) for row in rows}


def _samples(folder: Path) -> dict[str, list[str]]:
    return {row.id: row.samples or [] for row in read_rows(folder / SAMPLES_FILE, ProbeRow)}


def _flows(folder: Path) -> dict[str, KnowledgeFlow]:
    return {row.id: KnowledgeFlow(row.correctness, row.certainty) for row in read_rows(folder / FLOW_FILE, FlowRow)}


def _decisions(selection: Selection) -> Iterator[DecisionRow]:
    yield from (DecisionRow(id=id, decision=Decision.VAN) for id in selection.van)
    yield from (DecisionRow(id=id, decision=Decision.IDK) for id in selection.idk)
    yield from (DecisionRow(id=drop.id, decision=Decision.DROPPED, reason=drop.reason) for drop in selection.dropped)
