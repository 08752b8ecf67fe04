"""The stages score and flow. Each reads artifacts and writes one; the core computes the numbers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import monotonic

from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.parameters import FlowParameters, ScoreParameters
from craft.contracts.stages.rows import (
    FLOW_FILE,
    SAMPLES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    FlowRow,
    ProbeRow,
    QuestionRow,
    StateRow,
)
from craft.core.flow import flows
from craft.core.judging.refusals import wording_for
from craft.core.knowledge import KnowledgeState
from craft.core.questions import ChoiceQuestion, OpenQuestion, Task
from craft.errors import Internal, MissingStates
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_scoring.embedding.embedder import EmbedderSource
from craft_scoring.joins import by_id, joined
from craft_scoring.states import QUESTIONS_AT_ONCE, choice_states, open_states


def score(parameters: ScoreParameters, context: StageContext, *, embedders: EmbedderSource) -> StageResult:
    """Compute the knowledge states of all probed questions, in the training split's order (method.md, step 2)."""
    started = monotonic()
    questions = list(read_rows(context.input("questions") / TRAIN_FILE, QuestionRow))
    probed = joined(questions, read_rows(context.input("probe") / SAMPLES_FILE, ProbeRow), what="probe")
    probed_questions = [(row, row.to_question(), probe) for row, probe in zip(questions, probed, strict=True)]
    versions: dict[str, str] = {}
    if parameters.task is Task.OPEN_ENDED:
        embedder = embedders(parameters.embedder)
        versions["embedder"] = embedder.version
        states = open_states(
            [
                (question, _samples(row, probe))
                for row, question, probe in probed_questions
                if isinstance(question, OpenQuestion)
            ],
            embedder=embedder,
            wording=wording_for(parameters.prompts.language, parameters.prompts.extra_refusals),
        )
    else:
        states = choice_states(
            [
                (question, _logprobs(row, probe))
                for row, question, probe in probed_questions
                if isinstance(question, ChoiceQuestion)
            ]
        )
    rows = list(_with_progress(states, len(questions), context))
    if len(rows) != len(questions):
        scored = {row.id for row in rows}
        other = [row.name for row in questions if row.id not in scored]
        raise MissingStates(f"{len(other)} questions belong to another task than the job's, for example {other[0]}")
    write_rows(context.output / STATES_FILE, rows)
    return StageResult(
        counts={"questions": len(rows), "never_right": sum(state.correctness == 0 for state in rows)},
        metrics=_means(rows),
        cost=Cost(seconds=monotonic() - started),
        versions=versions,
    )


def flow(parameters: FlowParameters, context: StageContext) -> StageResult:  # noqa: ARG001 - the stage has no parameters
    """Compute the state after rehearsal minus the state before it, joined by id (method.md, step 5)."""
    started = monotonic()
    changes = flows(_states(context.input("before")), _states(context.input("after")))
    rows = [
        FlowRow(id=name, correctness=change.correctness, certainty=change.certainty) for name, change in changes.items()
    ]
    write_rows(context.output / FLOW_FILE, rows)
    return StageResult(
        counts={
            "questions": len(rows),
            "improved": sum(row.correctness > 0 for row in rows),
            "worsened": sum(row.correctness < 0 for row in rows),
        },
        metrics={"mean_correctness_change": sum(row.correctness for row in rows) / max(1, len(rows))},
        cost=Cost(seconds=monotonic() - started),
    )


def _samples(row: QuestionRow, probe: ProbeRow) -> list[str]:
    if not probe.samples:
        raise Internal(f"The probe has no samples for the question {row.name}.", hint="Retry the job from the probe.")
    return probe.samples


def _logprobs(row: QuestionRow, probe: ProbeRow) -> list[float | None]:
    if probe.logprobs is None or len(probe.logprobs) != len(row.choices or ()):
        raise Internal(
            f"The probe has no log-probability for each option of the question {row.name}.",
            hint="Retry the job from the probe.",
        )
    return probe.logprobs


def _with_progress(states: Iterator[StateRow], total: int, context: StageContext) -> Iterator[StateRow]:
    done = 0
    while part := list(islice(states, QUESTIONS_AT_ONCE)):
        yield from part
        done += len(part)
        context.progress(done, total)


def _means(states: Sequence[StateRow]) -> dict[str, float]:
    count = max(1, len(states))
    means = {
        "mean_correctness": sum(state.correctness for state in states) / count,
        "mean_certainty": sum(state.certainty for state in states) / count,
    }
    masses = [state.letter_mass for state in states if state.letter_mass is not None]
    return means | ({"mean_letter_mass": sum(masses) / len(masses)} if masses else {})


def _states(folder: Path) -> dict[str, KnowledgeState]:
    rows = by_id(read_rows(folder / STATES_FILE, StateRow), what="states")
    return {name: KnowledgeState(row.correctness, row.certainty) for name, row in rows.items()}
