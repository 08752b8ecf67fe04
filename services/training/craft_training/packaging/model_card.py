"""The README.md of a packaged adapter: its purpose, usage, training data, parameters and results."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from craft.contracts.documents.evaluation import EstimateView, EvaluationDocument, ModelMetrics
from craft.contracts.findings import Finding
from craft.contracts.stages.artifacts import Manifest
from craft.contracts.stages.parameters import PackageParameters
from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_FOLDER, CURVE_FILE, CurveRow, TrainingKind
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows
from craft_training.packaging.card_usage import usage

_METHOD = "https://arxiv.org/abs/2410.06913"
_COLUMNS = ("pc", "pw", "pr", "ths", "over_refusal")
_HEADINGS = ("right", "wrong", "refused", "THS", "over-refusal")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The facts on a card. `tuned` is the tuned artifact's folder; `equal` of `compared` replies were the engine's.

    `generation` holds the evaluation's settings of generation.
    """

    parameters: PackageParameters
    tuned: Path
    rows_by_kind: Mapping[str, int]
    evaluation: EvaluationDocument
    compared: int
    equal: int
    generation: Mapping[str, Any]
    findings: Sequence[Finding] = ()


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with the hub's front matter. It has counts, parameters and metrics, but no data row."""
    strategy, model = facts.parameters.strategy.value, facts.parameters.model
    aim = "answer what the base model knows and to refuse what it does not" if _refuses(facts) else "answer"
    return "\n".join(
        [
            *_front_matter(facts),
            f"# {model.id} after refusal-aware tuning ({strategy})",
            "",
            f"A LoRA adapter made with [CRaFT]({_METHOD}), certainty-represented knowledge flow for refusal-aware "
            f"instruction tuning. It was trained to {aim}; how far it does so stands under Results.",
            "",
            "## Use",
            "",
            *usage(facts.parameters, generation=facts.generation, refuses=_refuses(facts)),
            "",
            "## Training data",
            "",
            *_data(facts),
            "",
            "## Parameters",
            "",
            *_table(("parameter", "value"), _parameters(facts)),
            "",
            "## Results",
            "",
            *_results(facts),
            "",
            f"Loaded back with PEFT, the adapter gave the serving engine's greedy reply to {facts.equal} of "
            f"{facts.compared} held-out questions. Replies that part at a near-tie, decided by rounding, count.",
            "",
            *_findings(facts.findings),
            "## Limits",
            "",
            "What the base model knows was measured on the training questions' domain; elsewhere it may refuse too "
            "much or too little. A refusal says nothing about whether the question has an answer.",
            "",
        ]
    )


def _front_matter(facts: CardFacts) -> list[str]:
    tags = dict.fromkeys(("craft", "lora", "refusal", facts.parameters.strategy.value))
    return [
        "---",
        f"base_model: {facts.parameters.model.id}",
        "library_name: peft",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
    ]


def _refuses(facts: CardFacts) -> bool:
    return bool(facts.rows_by_kind.get(TrainingKind.IDK.value))


def _data(facts: CardFacts) -> list[str]:
    meaning = {"van": "keep their answer", "idk": "are answered with the refusal", "rehearse": "rehearse"}
    counts = [f"- {count} questions {meaning.get(kind, kind)}" for kind, count in sorted(facts.rows_by_kind.items())]
    return [f"{sum(facts.rows_by_kind.values())} questions of the task `{facts.parameters.task.value}`:", "", *counts]


def _parameters(facts: CardFacts) -> list[tuple[str, str]]:
    """The model, the training settings and the losses."""
    model = facts.parameters.model
    common = [("base model", model.id), ("revision", model.revision), ("base model digest", model.digest[:16])]
    curve = list(read_rows(facts.tuned / CURVE_FILE, CurveRow))
    losses = [("optimiser steps", str(len(curve))), ("first loss", f"{curve[0].loss:.4f}")] if curve else []
    losses += [("last loss", f"{curve[-1].loss:.4f}")] if curve else []
    return [*common, *_training_settings(facts.tuned), *losses]


def _training_settings(tuned: Path) -> list[tuple[str, str]]:
    """The settings in the artifact's manifest; outside an artifact store, those in the adapter's own configuration."""
    try:
        parameters = Manifest.model_validate_json((tuned / MANIFEST_FILE).read_bytes()).parameters
        settings = parameters["training"]
        values = {**settings, "seed": parameters.get("seed")} if isinstance(settings, dict) else {}
    except (OSError, ValidationError, KeyError):
        config = json.loads((tuned / ADAPTER_FOLDER / ADAPTER_CONFIG).read_bytes())
        values = {f"lora_{name}": config[name] for name in ("r",)} | {
            name: config[name] for name in ("lora_alpha", "lora_dropout", "target_modules")
        }
    return [(name.replace("_", " "), _shown(value)) for name, value in values.items()]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(facts: CardFacts) -> list[str]:
    lines: list[str] = []
    for name, results in facts.evaluation.sets.items():
        models = {
            "base, BASIC prompt": results.initial_basic,
            "base, REFUSE prompt": results.initial_refuse,
            "this adapter, REFUSE prompt": results.candidate,
        }
        rows = [(label, *_metrics(metrics)) for label, metrics in models.items()]
        lines += [f"### {name.replace('_', ' ')}: {results.candidate.count} questions", ""]
        lines += [*_table(("model", *_HEADINGS), rows), ""]
    return [*lines, "Percent, with bootstrap 95 % intervals. THS is 0 for the base model under the BASIC prompt."]


def _findings(findings: Sequence[Finding]) -> list[str]:
    """A section of what was noticed; nothing if nothing was. Excerpts stay in the report: no data row here."""
    if not findings:
        return []
    lines = [
        f"- **{'Error, accepted by the job' if each.accepted else each.severity.value.capitalize()}** "
        f"(`{each.code}`, {each.count}): {_plain(each.message)}"
        for each in findings
    ]
    return ["## Before you trust the results", "", *lines, ""]


def _plain(text: str) -> str:
    """Text that may hold words of a dataset, on one line and without Markdown or HTML."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", shown)


def _metrics(metrics: ModelMetrics) -> tuple[str, ...]:
    return tuple(_percent(getattr(metrics.micro, column)) for column in _COLUMNS)


def _percent(estimate: EstimateView) -> str:
    if estimate.value is None:
        return "undefined"
    interval = (
        f" ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
        if estimate.low is not None and estimate.high is not None
        else ""
    )
    return f"{100 * estimate.value:.1f}{interval}"


def _table(headings: tuple[str, ...], rows: list[tuple[str, str]] | list[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        f"|{' --- |' * len(headings)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
