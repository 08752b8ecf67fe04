"""From a resolved job to its stages: a pure function. Parameters hold only what changes a stage's result.

Longer than most files, because the whole graph should be readable in one place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.findings import Finding
from craft.contracts.spec.jobs import JobSpec, PromptSettings, VanTarget
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.diagnosis import DIAGNOSIS
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft.contracts.stages.names import (
    ANSWER_BASIC,
    ANSWER_REFUSE,
    FLOW,
    HELD_OUT,
    INGEST,
    PROBE_INITIAL,
    PROBE_REHEARSED,
    QUESTIONS,
    REHEARSAL_SET,
    REHEARSE,
    REPORT,
    SCORE_INITIAL,
    SCORE_REHEARSED,
    evaluate_stage,
    evaluated_role,
    ingest_stage,
    package_stage,
    questions_role,
    stage_name,
    tuning_set_stage,
)
from craft.contracts.stages.parameters import (
    AnswerParameters,
    EngineRef,
    EvaluateParameters,
    FlowParameters,
    IngestParameters,
    ModelRef,
    PackageParameters,
    ProbeParameters,
    RehearsalSetParameters,
    RehearseParameters,
    ReportParameters,
    ScoreParameters,
    StageParameters,
    TrainerRef,
    TuneParameters,
    TuningSetParameters,
)
from craft.core.findings import FindingCode
from craft.core.prompts import PromptMode
from craft.core.replies.guards import GUARD_CODES
from craft.core.strategies import Strategy


class ResolvedJob(Contract):
    """A job with every default filled in and every name looked up. `evaluation` maps a set's name to its dataset."""

    spec: JobSpec = Field(description="With inline rows replaced by the stored dataset's id.")
    model: ModelRef
    engine: EngineRef
    trainer: TrainerRef = TrainerRef()
    embedder: str
    dataset: ArtifactRef
    evaluation: dict[str, ArtifactRef] = Field(default_factory=dict)
    findings: list[Finding] = Field(default_factory=list, description="What was noticed when the job was accepted.")
    left_out: dict[str, list[int]] = Field(
        default_factory=dict, description="By evaluation set, `held_out` for the job's own: lines to go on without."
    )

    @property
    def datasets(self) -> dict[str, ArtifactRef]:
        """All that the job reads, by their ids."""
        further = zip((wanted.dataset for wanted in self.spec.evaluation), self.evaluation.values(), strict=False)
        return {**dict(further), **({self.spec.dataset.id: self.dataset} if self.spec.dataset.id else {})}


NOT_SHOWN: Mapping[str, bool | set[str]] = {"dataset": {"rows"}, "labels": True, "priority": True}
"""Fields of a specification that no report and no list of parameters shows.

Labels are for the user's own search, priority says only when the job runs, and rows are stored as a dataset.
"""


@dataclass(frozen=True, slots=True)
class FromStage:
    """An input that an earlier stage of the same job writes."""

    name: str


StageInput = FromStage | ArtifactRef


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One node of the graph; `inputs` by role."""

    name: str
    parameters: StageParameters
    inputs: Mapping[str, StageInput]

    @property
    def kind(self) -> StageKind:
        """The kind of computation."""
        return self.parameters.kind

    @property
    def service(self) -> Service:
        """The service that does it."""
        return FACTS[self.kind].service

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The stages whose artifacts it reads, once each."""
        return tuple(dict.fromkeys(source.name for source in self.inputs.values() if isinstance(source, FromStage)))


def plan(job: ResolvedJob) -> tuple[PlannedStage, ...]:
    """Every stage of the job, each after the stages it depends on.

    Strategies share every stage that does not name them. Rehearsal is planned only where a strategy needs the flow.
    """
    shared = [
        *_ingests(job),
        _probe(job, PROBE_INITIAL),
        _score(job, SCORE_INITIAL, probe=PROBE_INITIAL),
        *(_rehearsal(job) if _rehearses(job) else ()),
        _answer(job, ANSWER_BASIC, PromptMode.BASIC),
        _answer(job, ANSWER_REFUSE, PromptMode.REFUSE),
    ]
    stages = [*shared, *(stage for strategy in job.spec.strategies for stage in _strategy(job, strategy))]
    return (*stages, _report(job, stages))


def _rehearses(job: ResolvedJob) -> bool:
    return any(strategy.needs_flow for strategy in job.spec.strategies)


def _ingests(job: ResolvedJob) -> Iterator[PlannedStage]:
    spec = job.spec
    own = IngestParameters(
        task=spec.task,
        held_out_fraction=spec.split.held_out_fraction,
        seed=spec.seed,
        left_out=job.left_out.get(HELD_OUT, []),
    )
    # What a further set asks does not train. Where nothing overlaps the split has the same bytes as without the set.
    evaluated = {evaluated_role(name): dataset for name, dataset in job.evaluation.items()}
    yield PlannedStage(INGEST, own, {"dataset": job.dataset, **evaluated})
    for name, dataset in job.evaluation.items():
        # No randomness if all is held out: with seed 0 every job has the same stage key.
        whole = IngestParameters(task=spec.task, held_out_fraction=1.0, seed=0, left_out=job.left_out.get(name, []))
        yield PlannedStage(ingest_stage(name), whole, {"dataset": dataset})


def _probe(job: ResolvedJob, name: str, **adapter: StageInput) -> PlannedStage:
    spec = job.spec
    return PlannedStage(
        name,
        ProbeParameters(
            task=spec.task,
            model=job.model,
            engine=job.engine,
            probe=spec.probe,
            prompts=_generation_prompts(spec.prompts),
            seed=spec.seed,
            accept=_accepted_replies(spec),
        ),
        {"questions": FromStage(INGEST), **adapter},
    )


def _score(job: ResolvedJob, name: str, *, probe: str) -> PlannedStage:
    return PlannedStage(
        name,
        ScoreParameters(task=job.spec.task, embedder=job.embedder, prompts=job.spec.prompts),
        {"questions": FromStage(INGEST), "probe": FromStage(probe)},
    )


def _rehearsal(job: ResolvedJob) -> Iterator[PlannedStage]:
    spec, rehearsal = job.spec, job.spec.rehearsal
    yield PlannedStage(
        REHEARSAL_SET,
        RehearsalSetParameters(
            task=spec.task,
            size=rehearsal.size,
            threshold=rehearsal.threshold,
            relax_steps=rehearsal.relax_steps,
            shortage=rehearsal.shortage,
            prompts=spec.prompts,
        ),
        {
            "questions": FromStage(INGEST),
            "probe": FromStage(PROBE_INITIAL),
            DIAGNOSIS: FromStage(PROBE_INITIAL),
            "states": FromStage(SCORE_INITIAL),
        },
    )
    yield PlannedStage(
        REHEARSE,
        RehearseParameters(model=job.model, trainer=job.trainer, training=rehearsal.training, seed=spec.seed),
        {"rows": FromStage(REHEARSAL_SET), DIAGNOSIS: FromStage(PROBE_INITIAL)},
    )
    yield _probe(job, PROBE_REHEARSED, adapter=FromStage(REHEARSE))
    yield _score(job, SCORE_REHEARSED, probe=PROBE_REHEARSED)
    yield PlannedStage(
        FLOW,
        FlowParameters(),
        {"before": FromStage(SCORE_INITIAL), "after": FromStage(SCORE_REHEARSED)},
    )


def _answer(job: ResolvedJob, name: str, mode: PromptMode, **adapter: StageInput) -> PlannedStage:
    spec = job.spec
    return PlannedStage(
        name,
        AnswerParameters(
            task=spec.task,
            model=job.model,
            engine=job.engine,
            mode=mode,
            max_new_tokens=spec.evaluation_settings.max_new_tokens,
            prompts=_generation_prompts(spec.prompts),
            accept=_accepted_replies(spec),
        ),
        {**_question_sets(job), **adapter},
    )


def _strategy(job: ResolvedJob, strategy: Strategy) -> Iterator[PlannedStage]:
    spec = job.spec
    # Every strategy of a job that rehearses sees the flow: to shrink to one size it must know what the others drop.
    flow = {"flow": FromStage(FLOW)} if _rehearses(job) else {}
    own = spec.selection.van_target is VanTarget.OWN
    probe = {DIAGNOSIS: FromStage(PROBE_INITIAL), **({"probe": FromStage(PROBE_INITIAL)} if own else {})}
    tuning_set, tuned = FromStage(tuning_set_stage(strategy)), FromStage(stage_name(StageKind.TUNE, strategy))
    replies, evaluation = FromStage(stage_name(StageKind.ANSWER, strategy)), FromStage(evaluate_stage(strategy))
    yield PlannedStage(
        tuning_set.name,
        TuningSetParameters(
            task=spec.task,
            strategy=strategy,
            compared_with=sorted(spec.strategies),
            selection=spec.selection,
            prompts=spec.prompts,
            seed=spec.seed,
        ),
        {"questions": FromStage(INGEST), "states": FromStage(SCORE_INITIAL), **flow, **probe},
    )
    yield PlannedStage(
        tuned.name,
        TuneParameters(model=job.model, trainer=job.trainer, training=spec.training, seed=spec.seed),
        {"rows": tuning_set},
    )
    yield _answer(job, replies.name, PromptMode.REFUSE, adapter=tuned)
    yield PlannedStage(
        evaluation.name,
        EvaluateParameters(
            task=spec.task,
            candidate=strategy.value,
            settings=spec.evaluation_settings,
            prompts=spec.prompts,
            seed=spec.seed,
        ),
        {
            **_question_sets(job),
            "initial_basic": FromStage(ANSWER_BASIC),
            "initial_refuse": FromStage(ANSWER_REFUSE),
            "candidate": replies,
        },
    )
    yield PlannedStage(
        package_stage(strategy),
        PackageParameters(
            task=spec.task,
            model=job.model,
            trainer=job.trainer,
            strategy=strategy,
            prompts=spec.prompts,
            max_new_tokens=spec.evaluation_settings.max_new_tokens,
            quantization=spec.training.quantization,
            findings=job.findings,
        ),
        {
            "questions": FromStage(INGEST),
            "tuned": tuned,
            "rows": tuning_set,
            "candidate": replies,
            "evaluation": evaluation,
        },
    )


def _report(job: ResolvedJob, stages: Sequence[PlannedStage]) -> PlannedStage:
    spec = job.spec.model_dump(mode="json", exclude=NOT_SHOWN)
    shown = {
        **spec,
        **job.model_dump(mode="json", exclude={"spec", "findings", "left_out"}),
        "dataset": spec["dataset"],
    }
    shown["evaluation"] = spec["evaluation"]
    return PlannedStage(
        REPORT,
        ReportParameters(
            job=shown,
            task=job.spec.task,
            strategies=job.spec.strategies,
            seed=job.spec.seed,
            findings=job.findings,
        ),
        {stage.name: FromStage(stage.name) for stage in stages},
    )


def _question_sets(job: ResolvedJob) -> dict[str, StageInput]:
    return {
        QUESTIONS: FromStage(INGEST),
        **{questions_role(name): FromStage(ingest_stage(name)) for name in job.evaluation},
    }


def _accepted_replies(spec: JobSpec) -> list[FindingCode]:
    """The codes of a model's replies that the job accepts, and no others: those do not change the key."""
    return sorted(GUARD_CODES & set(spec.accept))


def _generation_prompts(prompts: PromptSettings) -> PromptSettings:
    """The prompts without what only judging uses, so that it does not change the key."""
    return prompts.model_copy(update={"extra_refusals": []})
