"""Compares an adapter's greedy replies: with the serving engine's, and on served weights with those of training."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from peft import PeftModel

from craft.contracts.spec.jobs import PromptSettings
from craft.contracts.stages.names import HELD_OUT
from craft.contracts.stages.parameters import PackageParameters
from craft.contracts.stages.rows import (
    ADAPTER_FOLDER,
    HELD_OUT_FILE,
    REPLIES_FILE,
    QuestionRow,
    ReplyRow,
)
from craft.core.findings import FindingCode
from craft.core.judging.refusals import is_refusal, wording_for
from craft.core.prompts import PromptMode, answer_messages, templates_from
from craft.errors import AdapterUnservable, FindingDetail, Internal, Severity
from craft.infra.models.chats.renderer import ChatRenderer
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import read_rows
from craft_training.base_models import BaseModel, with_adapter
from craft_training.packaging.greedy import DifferingReply, greedy, largest_change, margins
from craft_training.tuning.tuning_guard import MIN_CHANGE

MAX_COMPARED = 32
NEAR_TIE_NATS = 1.0
"""Rounding decides between two next tokens whose log-probabilities are closer than this: the engine merges the adapter
into 16-bit weights, whereas PEFT adds it at every layer."""


class ReplyComparison(NamedTuple):
    """The comparison of the loaded adapter's greedy `replies` with the serving engine's.

    `equal` replies are the same text. `near_ties` first differ at a token where both choices are about equally likely.
    """

    equal: int
    near_ties: int
    replies: Sequence[str]

    @property
    def compared(self) -> int:
        """The replies in all."""
        return len(self.replies)

    @property
    def agreeing(self) -> int:
        """The replies that show the same model."""
        return self.equal + self.near_ties

    @property
    def share(self) -> float:
        """The share of agreeing replies, in [0, 1]."""
        return self.agreeing / self.compared


class Asked(NamedTuple):
    """Evenly spread held-out questions, rendered with the REFUSE prompt, and the engine's replies to them."""

    prompts: Sequence[str]
    served: Sequence[str]


class QuantizationChanges(NamedTuple):
    """The replies that are others on the weights that are served than on those in 4 bits.

    `flips` of them are a refusal on one side only.
    """

    differing: int
    flips: int
    compared: int

    @property
    def counts(self) -> dict[str, int]:
        """As a stage reports them."""
        return {"quantization_differing": self.differing, "quantization_flips": self.flips}

    @property
    def finding(self) -> FindingDetail:
        """A warning for report and card, also where no reply differs: only some were compared."""
        return FindingDetail(
            code=FindingCode.TRAINED_ON_OTHER_WEIGHTS,
            severity=Severity.WARNING,
            message=f"The adapter was trained on weights of 4 bits (nf4) and is served on whole ones. Of "
            f"{self.compared} held-out replies {self.differing} differ between the two, {self.flips} of them by "
            "refusing on one only.",
            hint="The evaluation is of the weights that are served. If many differ, train with quantization none.",
            field="training.quantization",
            count=max(1, self.differing),
        )


def asked_of(parameters: PackageParameters, context: StageContext, chat: ChatRenderer) -> Asked:
    """The questions to compare on. Raises Internal if there are none, or the engine's replies lack one."""
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
    prompts = [chat.prompt(answer_messages(row.to_question(), PromptMode.REFUSE, templates)) for row in chosen]
    return Asked(prompts, [served[row.id].strip() for row in chosen])


def replies_of(parameters: PackageParameters, context: StageContext, base: BaseModel) -> list[str]:
    """The tuned adapter's greedy replies on a base model's weights, to the questions of the comparison."""
    asked = asked_of(parameters, context, base.chat)
    with with_adapter(base, str(context.input("tuned") / ADAPTER_FOLDER)) as model:
        return _replies(parameters, context, base.chat, model, asked.prompts)


def compare(
    parameters: PackageParameters, context: StageContext, base: BaseModel, asked: Asked, folder: Path
) -> ReplyComparison:
    """Reply with the packaged adapter in `folder`, and compare. Raises AdapterUnservable if it changes nothing."""
    with with_adapter(base, str(folder)) as model:
        _check_effect(model, base.chat, asked.prompts)
        own = _replies(parameters, context, base.chat, model, asked.prompts)
        differing = [
            DifferingReply(prompt, reply, served)
            for prompt, reply, served in zip(asked.prompts, own, asked.served, strict=True)
            if reply != served
        ]
        near_ties = sum(margin <= NEAR_TIE_NATS for margin in margins(model, base.chat, differing))
    return ReplyComparison(len(own) - len(differing), near_ties, own)


def _replies(
    parameters: PackageParameters, context: StageContext, chat: ChatRenderer, model: PeftModel, prompts: Sequence[str]
) -> list[str]:
    limit = parameters.max_new_tokens
    replies = greedy(model, chat, prompts, max_new_tokens=limit, on_progress=context.progress)
    return [reply.strip() for reply in replies]


def _check_effect(model: PeftModel, chat: ChatRenderer, prompts: Sequence[str]) -> None:
    """Raises AdapterUnservable for an adapter that is there but changes nothing, as one with other layers' names."""
    change = largest_change(model, chat, prompts)
    if change < MIN_CHANGE:
        raise AdapterUnservable(
            f"Loaded back, the adapter changes nothing: no logit behind a held-out prompt moved by more than "
            f"{change:.1e}.",
            hint="Name layers in training.target_modules that the model uses; raise training.learning_rate or epochs.",
        )


def changes_of(prompts: PromptSettings, as_trained: Sequence[str], as_served: Sequence[str]) -> QuantizationChanges:
    """The difference that the weights make to an adapter's replies to the same questions."""
    wording = wording_for(prompts.language, prompts.extra_refusals)
    pairs = list(zip(as_trained, as_served, strict=True))
    return QuantizationChanges(
        differing=sum(trained != served for trained, served in pairs),
        flips=sum(is_refusal(trained, wording) is not is_refusal(served, wording) for trained, served in pairs),
        compared=len(pairs),
    )
