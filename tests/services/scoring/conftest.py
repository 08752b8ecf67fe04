"""A whole job's artifacts, made up but consistent: the real code makes states, decisions and evaluations."""

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import BaseModel

from craft.contracts.findings import Finding
from craft.contracts.spec.jobs import EvaluationSettings, PromptSettings
from craft.contracts.stages.artifacts import ArtifactRef, Cost, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import EvaluateParameters, FlowParameters, ReportParameters
from craft.contracts.stages.rows import (
    CURVE_FILE,
    DECISIONS_FILE,
    HELD_OUT_FILE,
    REPLIES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    CurveRow,
    Decision,
    DecisionRow,
    QuestionRow,
    ReplyRow,
    StateRow,
)
from craft.core.flow import flows
from craft.core.knowledge import KnowledgeState
from craft.core.questions import Task
from craft.core.replies.reply import FinishReason
from craft.core.selection import QuestionFlow, select
from craft.core.strategies import SelectionRule, Strategy
from craft.errors import CraftError
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import FolderStore, write_rows
from craft_scoring.evaluation import evaluate
from craft_scoring.stages import flow

PLACES = {"capital": 0.72, "continent": 0.85, "chemistry": 0.4, "author": 0.22, "painter": 0.15, "currency": 0.5}
REFUSAL = "I don't know."
# For each model: its rate of refusals at random, and its rate of refusals that follow what it does not know.
REFUSAL_RATES = {"initial_refuse": (0.02, 0.0), "craft": (0.05, 0.95), "craft-no-flow": (0.12, 0.9),
           "craft-no-certainty": (0.15, 0.85), "cor-rait": (0.45, 0.5), "van-tuning": (0.0, 0.0)}  # fmt: skip


@dataclass
class MadeUpJob:
    """Publishes one artifact for each stage and keeps their folders by stage name."""

    root: Path
    task: Task = Task.OPEN_ENDED
    strategies: Sequence[Strategy] = (Strategy.CRAFT, Strategy.COR_RAIT)
    train: int = 300
    held_out: int = 150
    further: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, float] | None = field(default_factory=lambda: dict(PLACES))
    wording: Callable[[str, int], str] = lambda category, number: f"What belongs to {category} number {number}?"
    initial_right: bool = False
    seed: int = 7
    resamples: int = 200
    cut_basic: int = 0
    """M0's BASIC replies to so many held-out questions are cut before their answer."""
    noticed: Sequence[Finding] = ()
    """By the stage ingest."""
    folders: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, ArtifactRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FolderStore(self.root / "store")
        self.rng = random.Random(self.seed)
        self.known: dict[str, float] = {}

    def build(self) -> "MadeUpJob":
        """Make the artifacts of all stages before the report."""
        train, held_out = self._questions("train", self.train), self._questions("held", self.held_out)
        self.publish("ingest", StageKind.INGEST, {TRAIN_FILE: train, HELD_OUT_FILE: held_out}, findings=self.noticed)
        sets = {"held_out": held_out}
        for name, count in self.further.items():
            sets[name] = self._questions(name, count)
            self.publish(f"ingest:{name}", StageKind.INGEST, {TRAIN_FILE: [], HELD_OUT_FILE: sets[name]})
        before = [self._state(row.id, self.known[row.id]) for row in train]
        cost = Cost(seconds=81.4, prompt_tokens=412_000, prefilled_tokens=31_500, generated_tokens=84_210)
        self.publish(
            "probe:initial", StageKind.PROBE, {}, cost=cost, versions={"transformers": "5.23.0", "torch": "2.13.0"}
        )
        self.publish("score:initial", StageKind.SCORE, {STATES_FILE: before}, cost=Cost(seconds=4.2))
        if any(strategy.needs_flow for strategy in self.strategies):
            self._rehearse(train)
        self._answers(sets)
        for strategy in self.strategies:
            self._strategy(strategy, train, sets)
        return self

    def parameters(self) -> ReportParameters:
        """The report stage's parameters."""
        job: dict[str, object] = {
            "name": "Geography and arts, small model",
            "base_model": {"id": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "main"},
            "task": self.task.value, "strategies": [strategy.value for strategy in self.strategies],
            "selection": {"tau": 0.5, "margin": 0.0, "flow_rule": "improved", "n_van": 80, "n_idk": 20},
            "training": {"lora_r": 16, "epochs": 3, "learning_rate": 2e-4}, "seed": self.seed,
        }  # fmt: skip
        return ReportParameters(job=job, task=self.task, strategies=list(self.strategies), seed=self.seed)

    def context(self, inputs: Mapping[str, str] | None = None) -> LocalContext:
        """A stage's context over artifacts by role, or over all artifacts by stage name."""
        output = self.store.scratch("test")
        roles = {role: self.folders[name] for role, name in inputs.items()} if inputs is not None else self.folders
        return LocalContext(output=output, checkpoint=self.root / "checkpoint", inputs=dict(roles))

    def publish(
        self, name: str, kind: StageKind, files: Mapping[str, Iterable[BaseModel]], *, cost: Cost | None = None,
        versions: Mapping[str, str] | None = None, notes: Sequence[str] = (), findings: Sequence[Finding] = (),
    ) -> None:  # fmt: skip
        """Write rows and publish them as the artifact of one stage."""
        scratch = self.store.scratch(name)
        for file, rows in files.items():
            write_rows(scratch / file, rows)
        result = StageResult(
            cost=cost or Cost(seconds=0.4), versions=dict(versions or {}), notes=list(notes), findings=list(findings)
        )
        self.adopt(name, kind, scratch, result)

    def adopt(self, name: str, kind: StageKind, scratch: Path, result: StageResult) -> None:
        """Publish a folder that a stage function wrote."""
        key = hashlib.sha256(name.encode()).hexdigest()
        manifest = self.store.publish(scratch, key=key, kind=kind, parameters={}, inputs={}, result=result)
        self.refs[name], self.folders[name] = manifest.ref, self.store.open(manifest.ref)

    def _questions(self, prefix: str, count: int) -> list[QuestionRow]:
        rows = []
        for number in range(count):
            category = list(self.categories)[number % len(self.categories)] if self.categories else None
            row_id = f"{prefix}-{number}"
            share = self.categories[category] if self.categories and category else 0.5
            self.known[row_id] = min(1.0, max(0.0, self.rng.betavariate(0.35 + share, 1.1 - share)))
            question = self.wording(category or "nothing", number)
            rows.append(self._row(row_id, question, category, number))
        return rows

    def _row(self, row_id: str, question: str, category: str | None, number: int) -> QuestionRow:
        if self.task is Task.OPEN_ENDED:
            return QuestionRow(id=row_id, question=question, answers=[f"Answer{number}"], category=category)
        choices = [f"Option{number}{letter}" for letter in "abcd"]
        return QuestionRow(id=row_id, question=question, choices=choices, answer=number % 4, category=category)

    def _state(self, row_id: str, known: float) -> StateRow:
        certainty = min(1.0, max(0.0, 0.25 + 0.65 * abs(known) + self.rng.gauss(0, 0.1)))
        if self.task is Task.MULTIPLE_CHOICE:
            return StateRow(id=row_id, correctness=known, certainty=certainty, letter_mass=0.93)
        right = sum(self.rng.random() < known for _ in range(10))
        return StateRow(id=row_id, correctness=right / 10, certainty=certainty)

    def _rehearse(self, train: Sequence[QuestionRow]) -> None:
        note = "threshold relaxed from 0.99 to 0.9: too few questions were known for sure"
        self.publish("rehearsal_set", StageKind.REHEARSAL_SET, {}, notes=[note])
        self.publish(
            "rehearse",
            StageKind.REHEARSE,
            {CURVE_FILE: self._curve(24, 2.1)},
            cost=Cost(seconds=12.5, trained_tokens=9_400),
        )
        cost = Cost(seconds=78.9, prompt_tokens=412_000, prefilled_tokens=31_500, generated_tokens=79_020)
        self.publish("probe:rehearsed", StageKind.PROBE, {}, cost=cost, versions={"transformers": "5.23.0"})
        after = [
            self._state(row.id, min(1.0, max(0.0, self.known[row.id] * 1.1 + self.rng.gauss(0, 0.1)))) for row in train
        ]
        self.publish("score:rehearsed", StageKind.SCORE, {STATES_FILE: after}, cost=Cost(seconds=4.1))
        context = self.context({"before": "score:initial", "after": "score:rehearsed"})
        self.adopt("flow", StageKind.FLOW, context.output, flow(FlowParameters(), context))

    def _curve(self, steps: int, loss: float) -> list[CurveRow]:
        return [
            CurveRow(
                step=step, epoch=3 * step / steps, learning_rate=2e-4, seconds=step * 0.5,
                loss=0.2 + loss * 0.93 ** (step * 60 / steps) + self.rng.random() * 0.15,
            )
            for step in range(1, steps + 1)
        ]  # fmt: skip

    def _answers(self, sets: Mapping[str, Sequence[QuestionRow]]) -> None:
        for mode, model in (("basic", "initial_basic"), ("refuse", "initial_refuse")):
            cost = Cost(seconds=21.0, prompt_tokens=15_000, prefilled_tokens=9_000, generated_tokens=4_000)
            self.publish(f"answer:{mode}", StageKind.ANSWER, {REPLIES_FILE: self._replies(model, sets)}, cost=cost)

    def _replies(self, model: str, sets: Mapping[str, Sequence[QuestionRow]]) -> list[ReplyRow]:
        random_rate, unknown_rate = REFUSAL_RATES.get(model, (0.0, 0.0))
        rows = []
        for name, questions in sets.items():
            for row in questions:
                known = 1.0 if self.initial_right and model == "initial_basic" else self.known[row.id]
                refuses = self.rng.random() < random_rate + unknown_rate * (1 - known) ** 1.5
                right = self.rng.random() < known
                reply = ReplyRow(set=name, id=row.id, reply=REFUSAL if refuses else self._reply(row, right=right))
                if model == "initial_basic" and questions.index(row) < self.cut_basic:
                    reply = ReplyRow(set=name, id=row.id, reply="<think>\nOkay, the user", finish=FinishReason.LENGTH)
                rows.append(reply)
        return rows

    def _reply(self, row: QuestionRow, *, right: bool) -> str:
        if row.choices is not None and row.answer is not None:
            return f"{'ABCD'[row.answer if right else (row.answer + 1) % 4]}."
        return f"It is {(row.answers or [''])[0]}." if right else "It is Elsewhere, as far as one can tell."

    def _strategy(
        self, strategy: Strategy, train: Sequence[QuestionRow], sets: Mapping[str, Sequence[QuestionRow]]
    ) -> None:
        name = strategy.value
        self.publish(f"tuning_set:{name}", StageKind.TUNING_SET, {DECISIONS_FILE: self._decisions(strategy)})
        cost = Cost(seconds=44.0, trained_tokens=31_000)
        self.publish(f"tune:{name}", StageKind.TUNE, {CURVE_FILE: self._curve(90, 3.0)}, cost=cost)
        self.publish(f"answer:{name}", StageKind.ANSWER, {REPLIES_FILE: self._replies(name, sets)})
        roles = {"questions": "ingest", "initial_basic": "answer:basic", "initial_refuse": "answer:refuse"}
        roles |= {f"questions:{other}": f"ingest:{other}" for other in sets if other != "held_out"}
        context = self.context(roles | {"candidate": f"answer:{name}"})
        parameters = EvaluateParameters(
            task=self.task, candidate=name, settings=EvaluationSettings(resamples=self.resamples),
            prompts=PromptSettings(), seed=self.seed,
        )  # fmt: skip
        self.adopt(f"evaluate:{name}", StageKind.EVALUATE, context.output, evaluate(parameters, context))
        self.publish(f"package:{name}", StageKind.PACKAGE, {}, versions={"peft": "0.21.0"})

    def _decisions(self, strategy: Strategy) -> list[DecisionRow]:
        before, after = self._known_states("score:initial"), self._known_states("score:rehearsed")
        changes = flows(before, after) if after else {}
        states = [QuestionFlow(name, state, changes.get(name)) for name, state in before.items()]
        rule = SelectionRule(n_van=len(states) // 4, n_idk=len(states) // 16, seed=self.seed)
        try:
            chosen = select(states, strategy=strategy, rule=rule)
        except CraftError:
            return [DecisionRow(id=name, decision=Decision.VAN) for name in before]
        rows = [DecisionRow(id=name, decision=Decision.VAN) for name in chosen.van]
        rows += [DecisionRow(id=name, decision=Decision.IDK) for name in chosen.idk]
        return rows + [
            DecisionRow(id=drop.id, decision=Decision.DROPPED, reason=drop.reason) for drop in chosen.dropped
        ]

    def _known_states(self, name: str) -> dict[str, KnowledgeState]:
        if name not in self.folders:
            return {}
        lines = (self.folders[name] / STATES_FILE).read_text().splitlines()
        rows = [StateRow.model_validate_json(line) for line in lines]
        return {row.id: KnowledgeState(row.correctness, row.certainty) for row in rows}


@pytest.fixture
def made_up_job(tmp_path: Path) -> Callable[..., MadeUpJob]:
    """`made_up_job(strategies=…, further=…)`: all artifacts of a job up to its report."""
    return lambda **settings: MadeUpJob(root=tmp_path / "job", **settings).build()
