"""Reads the job's artifacts, by stage name, from which a report is made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.stages.artifacts import Manifest
from craft.contracts.stages.kinds import FACTS
from craft.contracts.stages.names import (
    FLOW,
    INGEST,
    SCORE_INITIAL,
    SCORE_REHEARSED,
    evaluate_stage,
    evaluation_sets,
    kind_of,
    position,
    tuning_set_stage,
    which_of,
)
from craft.contracts.stages.parameters import ReportParameters
from craft.contracts.stages.rows import (
    CURVE_FILE,
    DECISIONS_FILE,
    EVALUATION_FILE,
    FLOW_FILE,
    HELD_OUT_FILE,
    OUTCOMES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    CurveRow,
    DecisionRow,
    FlowRow,
    OutcomeRow,
    QuestionRow,
    StateRow,
)
from craft.core.strategies import Strategy
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows
from craft_scoring.joins import by_id


@dataclass(frozen=True, slots=True)
class JobResults:
    """The results of one job's stages, in memory. Mappings by strategy are in the job's order."""

    parameters: ReportParameters
    train: Mapping[str, QuestionRow]
    evaluated: Mapping[str, Mapping[str, QuestionRow]]
    before: Mapping[str, StateRow]
    after: Mapping[str, StateRow]
    flow: Mapping[str, FlowRow]
    decisions: Mapping[str, Mapping[str, DecisionRow]]
    curves: Mapping[str, list[CurveRow]]
    evaluations: Mapping[str, EvaluationDocument]
    outcomes: Mapping[str, Mapping[str, list[OutcomeRow]]]
    manifests: Mapping[str, Manifest]

    @property
    def strategies(self) -> list[str]:
        """The strategies' names in the job's order."""
        return [strategy.value for strategy in self.parameters.strategies]


def read_results(parameters: ReportParameters, context: StageContext) -> JobResults:
    """Read all artifacts of a job. `after` and `flow` are empty for a job without rehearsal."""
    strategies = parameters.strategies
    inputs = {name: context.inputs[name] for name in sorted(context.inputs, key=_sort_key(strategies))}
    train = by_id(read_rows(context.input(INGEST) / TRAIN_FILE, QuestionRow), what="train")
    return JobResults(
        parameters=parameters,
        train=train,
        evaluated=dict(_evaluated(inputs)),
        before=by_id(read_rows(context.input(SCORE_INITIAL) / STATES_FILE, StateRow), what="states"),
        after=_optional_states(inputs, SCORE_REHEARSED),
        flow=by_id(read_rows(inputs[FLOW] / FLOW_FILE, FlowRow), what=FLOW) if FLOW in inputs else {},
        decisions={
            strategy.value: by_id(
                read_rows(context.input(tuning_set_stage(strategy)) / DECISIONS_FILE, DecisionRow), what="decisions"
            )
            for strategy in strategies
        },
        curves={name: list(read_rows(path / CURVE_FILE, CurveRow)) for name, path in inputs.items() if _trains(name)},
        evaluations={strategy.value: _evaluation(context.input(evaluate_stage(strategy))) for strategy in strategies},
        outcomes={strategy.value: _outcomes(context.input(evaluate_stage(strategy))) for strategy in strategies},
        manifests={
            name: Manifest.model_validate_json((path / MANIFEST_FILE).read_bytes()) for name, path in inputs.items()
        },
    )


def _evaluated(inputs: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, QuestionRow]]]:
    for name, stage in evaluation_sets(inputs, own=INGEST).items():
        yield name, by_id(read_rows(inputs[stage] / HELD_OUT_FILE, QuestionRow), what=stage)


def _optional_states(inputs: Mapping[str, Path], name: str) -> dict[str, StateRow]:
    return by_id(read_rows(inputs[name] / STATES_FILE, StateRow), what=name) if name in inputs else {}


def _trains(name: str) -> bool:
    kind = kind_of(name)
    return kind is not None and FACTS[kind].unit.trained


def _evaluation(folder: Path) -> EvaluationDocument:
    return EvaluationDocument.model_validate_json((folder / EVALUATION_FILE).read_bytes())


def _outcomes(folder: Path) -> dict[str, list[OutcomeRow]]:
    """Judged replies by `set`, with those of both baselines."""
    outcomes: dict[str, list[OutcomeRow]] = {}
    for row in read_rows(folder / OUTCOMES_FILE, OutcomeRow):
        outcomes.setdefault(row.set, []).append(row)
    return outcomes


def _sort_key(strategies: Sequence[Strategy]) -> Callable[[str], tuple[int, int, str]]:
    """A sort key of stage names: by the order of the stages, the job's order of strategies, and the name."""
    places = {strategy.value: place for place, strategy in enumerate(strategies)}

    def key(name: str) -> tuple[int, int, str]:
        return position(name), places.get(which_of(name), -1), name

    return key
