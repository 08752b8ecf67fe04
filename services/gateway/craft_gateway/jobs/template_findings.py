"""Findings about a model's chat template, and the token with which it ends replies."""

from collections.abc import Iterator
from pathlib import Path

from craft.contracts.spec.chats import ChatFormat
from craft.core.findings import FindingCode
from craft.errors import FindingDetail, Severity
from craft.infra.models.chats.untrained import Untrained, untrained
from craft.infra.models.inspection.documents import Inspection
from craft.infra.settings.inference import VllmSettings


def template_findings(*, begins_replies: bool) -> Iterator[FindingDetail]:
    """The findings about the model's chat template."""
    if not begins_replies:
        yield FindingDetail(
            code=FindingCode.NO_REPLY_HEADER,
            severity=Severity.ERROR,
            message="The model's chat template ignores add_generation_prompt: prompts end after the user's turn, "
            "without the header that the template writes before a reply.",
            hint="Have the template write the header where add_generation_prompt is true.",
            field="base_model",
        )


def served_findings(form: ChatFormat, vllm: VllmSettings | None) -> Iterator[FindingDetail]:
    """The finding about a vLLM of the team's own that would serve the adapter with other chats, or not at all."""
    if vllm is None or vllm.url is None or (form.date is None and form.template is None):
        return
    why = "have the job's own template" if form.template is not None else f"keep the date {form.date}"
    yield FindingDetail(
        code=FindingCode.CHATS_NEED_TRUST,
        severity=Severity.WARNING,
        message=f"Chats with the adapter {why}, so each request to vLLM carries its text as a template. Your vLLM "
        "refuses that unless it was started so.",
        hint="Start it with --trust-request-chat-template, where only the model server can reach it.",
        field="base_model",
    )


def end_findings(found: Inspection, model: Path) -> Iterator[FindingDetail]:
    """The finding about the token that ends replies; none where the tokenizer could not be read."""
    if found.end is None:
        return
    text, number = found.end.text, found.end.id
    sign = Untrained.ABSENT if number is None else untrained(model, number)
    if sign is None:
        return
    yield FindingDetail(
        code=FindingCode.UNTRAINED_END,
        severity=Severity.WARNING,
        message=f"The chat template ends replies with {text[:60]}, which the model never learned: its row {sign}. An "
        "adapter changes no embedding, so replies may not end before the limit of new tokens.",
        hint="Choose an instruct checkpoint, or give a template in base_model.chat_template that ends replies with a "
        "token that the model knows.",
        field="base_model",
    )
