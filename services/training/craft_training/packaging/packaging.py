"""Packages the deliverable, an adapter in PEFT's layout with tokenizer and card, and compares it with the engine."""

import shutil
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from pydantic import ValidationError

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.findings import Finding
from craft.contracts.services.model_server import AdapterChat
from craft.contracts.stages.artifacts import Cost, Manifest, StageResult
from craft.contracts.stages.names import HELD_OUT
from craft.contracts.stages.parameters import PackageParameters
from craft.contracts.stages.rows import (
    ADAPTER_ARCHIVE,
    ADAPTER_CHAT,
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    ADAPTER_WEIGHTS,
    EVALUATION_FILE,
    HELD_OUT_FILE,
    REPLIES_FILE,
    TRAINING_FILE,
    QuestionRow,
    ReplyRow,
    TrainingRow,
)
from craft.core.prompts import PromptMode, answer_messages, templates_from
from craft.errors import AdapterUnservable, Internal
from craft.infra.models.tokenizer_files import copy_tokenizer
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows
from craft_training.base_models import BaseModel, with_adapter
from craft_training.packaging.adapter_files import write_archive
from craft_training.packaging.greedy import DifferingReply, greedy, greedy_settings, margins
from craft_training.packaging.model_card import CardFacts, model_card

MAX_COMPARED = 32
NEAR_TIE_NATS = 1.0
"""Rounding decides between two next tokens whose log-probabilities are closer than this: the engine merges the adapter
into 16-bit weights, whereas PEFT adds it at every layer."""


class ReplyComparison(NamedTuple):
    """The comparison of the loaded adapter's greedy replies with the serving engine's.

    `equal` replies are the same text. `near_ties` first differ at a token where both choices are about equally likely.
    """

    equal: int
    near_ties: int
    compared: int

    @property
    def agreeing(self) -> int:
        """The replies that show the same model."""
        return self.equal + self.near_ties

    @property
    def share(self) -> float:
        """The share of agreeing replies, in [0, 1]."""
        return self.agreeing / self.compared


def package(parameters: PackageParameters, context: StageContext, base: BaseModel) -> StageResult:
    """Write adapter/ and adapter.tar.gz, after comparing greedy replies with the engine's.

    Raises AdapterUnservable if less than `least_equal_share` of at most 32 held-out replies agree, and Internal
    if an input is incomplete.
    """
    started = monotonic()
    folder = context.output / ADAPTER_FOLDER
    folder.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(context.input("tuned") / ADAPTER_FOLDER / name, folder / name)
    copy_tokenizer(base.folder, folder, template=base.chat.own_template)
    (folder / ADAPTER_CHAT).write_text(_adapter_chat(base).model_dump_json(indent=1) + "\n", encoding="utf-8")
    comparison = _compare(parameters, context, base, folder)
    if comparison.share < parameters.least_equal_share:
        raise AdapterUnservable(
            f"Loaded back, the adapter gives the engine's reply to {comparison.agreeing} of {comparison.compared} "
            f"held-out questions ({comparison.share:.1%}); at least {parameters.least_equal_share:.1%} are needed.",
            hint="Train and serve with the same dtype; float32 in both is the safest.",
        )
    (folder / "README.md").write_text(model_card(_facts(parameters, context, base, comparison)), encoding="utf-8")
    write_archive(folder, context.output / ADAPTER_ARCHIVE)
    return StageResult(
        counts={"compared": comparison.compared, "equal": comparison.equal, "near_ties": comparison.near_ties},
        metrics={"agreeing_share": comparison.share},
        cost=Cost(seconds=monotonic() - started),
    )


def _compare(parameters: PackageParameters, context: StageContext, base: BaseModel, folder: Path) -> ReplyComparison:
    """Reply to evenly spread held-out questions under the REFUSE prompt, as the engine did, and compare."""
    rows = list(read_rows(context.input("questions") / HELD_OUT_FILE, QuestionRow))
    if not rows:
        raise Internal("There is no held-out question to compare replies on.")
    chosen = rows[:: -(-len(rows) // MAX_COMPARED)]
    served = {
        row.id: row.reply
        for row in read_rows(context.input("candidate") / REPLIES_FILE, ReplyRow)
        if row.set == HELD_OUT
    }
    if missing := [row.name for row in chosen if row.id not in served]:
        raise Internal(
            f"The engine's replies lack {len(missing)} held-out questions, first {missing[0]}.",
            hint="Retry the job from the answers.",
        )
    templates = templates_from(parameters.prompts.templates)
    chat = base.chat
    prompts = [chat.prompt(answer_messages(row.to_question(), PromptMode.REFUSE, templates)) for row in chosen]
    with with_adapter(base, str(folder)) as model:
        replies = greedy(
            model,
            chat,
            prompts,
            max_new_tokens=parameters.max_new_tokens,
            on_progress=context.progress,
        )
        differing = [
            DifferingReply(prompt, own.strip(), served[row.id].strip())
            for row, prompt, own in zip(chosen, prompts, replies, strict=True)
            if own.strip() != served[row.id].strip()
        ]
        near_ties = sum(margin <= NEAR_TIE_NATS for margin in margins(model, chat, differing))
    return ReplyComparison(len(chosen) - len(differing), near_ties, len(chosen))


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
    parameters: PackageParameters, context: StageContext, base: BaseModel, comparison: ReplyComparison
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
        findings=noticed(parameters, context),
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
