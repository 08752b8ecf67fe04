"""Findings about a model's chat template, and the token with which it ends replies."""

from collections.abc import Iterator
from pathlib import Path

from craft.core.findings import FindingCode
from craft.errors import FindingDetail, Severity
from craft.infra.models.chats.untrained import Untrained, untrained
from craft.infra.models.inspection.documents import Inspection


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
