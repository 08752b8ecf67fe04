"""Everything a report is made from: the job's artifacts, read by stage name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.stages.artifacts import Manifest
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
from craft.core.selection import Strategy
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows
from craft_scoring.joins import by_id

# The order in which a job does its stages; further ones come last.
_ORDER = (
    "ingest", "probe:initial", "score:initial", "rehearsal_set", "rehearse", "probe:rehearsed", "score:rehearsed",
    "flow", "answer:basic", "answer:refuse", "tuning_set", "tune", "answer", "evaluate", "package",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobResults:
    """What the stages of one job left behind, in memory. Mappings by strategy are in the job's order."""

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
    """Read all artifacts of a job. `after` and `flow` are empty where the job rehearsed nothing."""
    strategies = [strategy.value for strategy in parameters.strategies]
    inputs = {name: context.inputs[name] for name in sorted(context.inputs, key=_position(parameters.strategies))}
    train = by_id(read_rows(context.input("ingest") / TRAIN_FILE, QuestionRow), what="train")
    return JobResults(
        parameters=parameters,
        train=train,
        evaluated=dict(_evaluated(inputs)),
        before=by_id(read_rows(context.input("score:initial") / STATES_FILE, StateRow), what="states"),
        after=_optional_states(inputs, "score:rehearsed"),
        flow=by_id(read_rows(inputs["flow"] / FLOW_FILE, FlowRow), what="flow") if "flow" in inputs else {},
        decisions={
            name: by_id(read_rows(context.input(f"tuning_set:{name}") / DECISIONS_FILE, DecisionRow), what="decisions")
            for name in strategies
        },
        curves={name: list(read_rows(path / CURVE_FILE, CurveRow)) for name, path in inputs.items() if _trains(name)},
        evaluations={name: _evaluation(context.input(f"evaluate:{name}")) for name in strategies},
        outcomes={name: _outcomes(context.input(f"evaluate:{name}")) for name in strategies},
        manifests={
            name: Manifest.model_validate_json((path / MANIFEST_FILE).read_bytes()) for name, path in inputs.items()
        },
    )


def _evaluated(inputs: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, QuestionRow]]]:
    for name, path in inputs.items():
        kind, _, which = name.partition(":")
        if kind == "ingest":
            yield which or "held_out", by_id(read_rows(path / HELD_OUT_FILE, QuestionRow), what=name)


def _optional_states(inputs: Mapping[str, Path], name: str) -> dict[str, StateRow]:
    return by_id(read_rows(inputs[name] / STATES_FILE, StateRow), what=name) if name in inputs else {}


def _trains(name: str) -> bool:
    return name == "rehearse" or name.startswith("tune:")


def _evaluation(folder: Path) -> EvaluationDocument:
    return EvaluationDocument.model_validate_json((folder / EVALUATION_FILE).read_bytes())


def _outcomes(folder: Path) -> dict[str, list[OutcomeRow]]:
    """Judged replies by `set`, both baselines' among them."""
    found: dict[str, list[OutcomeRow]] = {}
    for row in read_rows(folder / OUTCOMES_FILE, OutcomeRow):
        found.setdefault(row.set, []).append(row)
    return found


def _position(strategies: list[Strategy]) -> Callable[[str], tuple[int, int, str]]:
    """Sort key of stage names: the order of the work, then the strategies' order in the job, then the name."""
    places = {strategy.value: place for place, strategy in enumerate(strategies)}

    def key(name: str) -> tuple[int, int, str]:
        kind, _, which = name.partition(":")
        known = name if name in _ORDER else kind
        return (_ORDER.index(known) if known in _ORDER else len(_ORDER), places.get(which, -1), name)

    return key
