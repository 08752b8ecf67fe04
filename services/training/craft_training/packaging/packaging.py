"""Packages the deliverable, an adapter in PEFT's layout with tokenizer and card, and compares it with the engine."""

import shutil
from collections.abc import Sequence
from time import monotonic

from pydantic import ValidationError

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.findings import Finding, findings_of
from craft.contracts.services.model_server import AdapterChat
from craft.contracts.stages.artifacts import Cost, Manifest, StageResult
from craft.contracts.stages.parameters import PackageParameters
from craft.contracts.stages.rows import (
    ADAPTER_ARCHIVE,
    ADAPTER_CHAT,
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    EVALUATION_FILE,
    TRAINING_FILE,
    TrainingRow,
)
from craft.errors import AdapterUnservable, Internal
from craft.infra.models.tokenizer_files import copy_tokenizer
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows
from craft_training.base_models import BaseModel
from craft_training.packaging.adapter_files import write_archive
from craft_training.packaging.comparison import QuantizationChanges, ReplyComparison, asked_of, changes_of, compare
from craft_training.packaging.greedy import greedy_settings
from craft_training.packaging.model_card import CardFacts, model_card


def package(
    parameters: PackageParameters, context: StageContext, base: BaseModel, *, as_trained: Sequence[str] | None = None
) -> StageResult:
    """Write adapter/ and adapter.tar.gz, after comparing greedy replies with the engine's.

    `base` has the weights that are served. `as_trained`: `replies_of` the adapter on the weights that it was trained
    on, where these are others. Raises AdapterUnservable if the adapter changes nothing, or less than
    `least_equal_share` of at most 32 held-out replies agree, and Internal if an input is incomplete.
    """
    started = monotonic()
    folder = context.output / ADAPTER_FOLDER
    folder.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(context.input("tuned") / ADAPTER_FOLDER / name, folder / name)
    copy_tokenizer(base.folder, folder, template=base.chat.own_template)
    (folder / ADAPTER_CHAT).write_text(_adapter_chat(base).model_dump_json(indent=1) + "\n", encoding="utf-8")
    asked = asked_of(parameters, context, base.chat)
    comparison = compare(parameters, context, base, asked, folder)
    changes = None if as_trained is None else changes_of(parameters.prompts, as_trained, comparison.replies)
    if comparison.share < parameters.least_equal_share:
        raise AdapterUnservable(
            f"Loaded back, the adapter gives the engine's reply to {comparison.agreeing} of {comparison.compared} "
            f"held-out questions ({comparison.share:.1%}); at least {parameters.least_equal_share:.1%} are needed.",
            hint="Train and serve with the same dtype; float32 in both is the safest.",
        )
    (folder / "README.md").write_text(
        model_card(_facts(parameters, context, base, comparison, changes)), encoding="utf-8"
    )
    write_archive(folder, context.output / ADAPTER_ARCHIVE)
    return StageResult(
        counts={
            "compared": comparison.compared,
            "equal": comparison.equal,
            "near_ties": comparison.near_ties,
            **(changes.counts if changes else {}),
        },
        metrics={"agreeing_share": comparison.share},
        cost=Cost(seconds=monotonic() - started),
        findings=findings_of([changes.finding]) if changes else [],
    )


def _adapter_chat(base: BaseModel) -> AdapterChat:
    chat = base.chat
    tokens = {name: text for name, text in chat.tokenizer.special_tokens_map.items() if isinstance(text, str)}
    return AdapterChat(
        arguments=dict(chat.arguments),
        end_tokens=list(chat.end_tokens(base.model.generation_config)),
        template=chat.own_template,
        tokens={} if chat.own_template is None else tokens,
    )


def _facts(
    parameters: PackageParameters,
    context: StageContext,
    base: BaseModel,
    comparison: ReplyComparison,
    changes: QuantizationChanges | None,
) -> CardFacts:
    kinds: dict[str, int] = {}
    for row in read_rows(context.input("rows") / TRAINING_FILE, TrainingRow):
        kinds[row.kind.value] = kinds.get(row.kind.value, 0) + 1
    try:
        evaluation = EvaluationDocument.model_validate_json(
            (context.input("evaluation") / EVALUATION_FILE).read_bytes()
        )
    except (OSError, ValidationError) as error:
        raise Internal(f"The evaluation cannot be read: {type(error).__name__}.") from error
    return CardFacts(
        parameters=parameters,
        tuned=context.input("tuned"),
        rows_by_kind=kinds,
        evaluation=evaluation,
        compared=comparison.compared,
        equal=comparison.agreeing,
        findings=[*noticed(parameters, context), *(findings_of([changes.finding]) if changes else [])],
        generation=greedy_settings(base.model.generation_config, base.chat, max_new_tokens=parameters.max_new_tokens),
    )


def noticed(parameters: PackageParameters, context: StageContext) -> list[Finding]:
    """The findings of the job and of the stages that the adapter comes from, each once."""
    found = list(parameters.findings)
    for role in sorted(context.inputs):
        path = context.inputs[role] / MANIFEST_FILE
        if path.is_file():
            found += Manifest.model_validate_json(path.read_bytes()).result.findings
    return list({each.model_dump_json(): each for each in found}.values())
