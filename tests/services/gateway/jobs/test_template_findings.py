"""Findings about chats that another's vLLM would serve, and about an end that a model never learned."""

from datetime import date
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from craft.contracts.spec.chats import ChatFormat
from craft.infra.models.inspection.documents import EndToken, Inspection
from craft.infra.settings.inference import VllmSettings
from craft_gateway.jobs.template_findings import end_findings, served_findings

OWN, THEIRS = VllmSettings(), VllmSettings(url="http://vllm.example:8000")
DATED, GIVEN = ChatFormat(date=date(2026, 2, 3)), ChatFormat(template="{{ messages }}")


@pytest.mark.parametrize(
    ("form", "words"), [(DATED, "keep the date 2026-02-03"), (GIVEN, "have the job's own template")]
)
def test_a_vllm_of_the_teams_own_must_take_templates_of_requests(form: ChatFormat, words: str) -> None:
    [finding] = served_findings(form, THEIRS)
    assert (finding.code, finding.severity) == ("chats_need_trust", "warning")
    assert words in finding.message
    assert "--trust-request-chat-template" in (finding.hint or "")


@pytest.mark.parametrize("vllm", [None, OWN])
@pytest.mark.parametrize("form", [DATED, GIVEN])
def test_our_own_vllm_takes_them(form: ChatFormat, vllm: VllmSettings | None) -> None:
    assert list(served_findings(form, vllm)) == []


def test_arguments_alone_need_no_trust() -> None:
    assert list(served_findings(ChatFormat(arguments={"enable_thinking": False}), THEIRS)) == []


@pytest.mark.parametrize(("number", "words"), [(7, "nearly zero"), (99, "is not there"), (None, "is not there")])
def test_an_end_that_was_never_learned_is_told(tmp_path: Path, number: int | None, words: str) -> None:
    table = torch.randn(50, 8)
    table[7] = 0.0
    save_file({"model.embed_tokens.weight": table}, tmp_path / "model.safetensors")
    [finding] = end_findings(Inspection(end=EndToken(text="<|im_end|>", id=number)), tmp_path)
    assert (finding.code, finding.severity, finding.field) == ("untrained_end", "warning", "base_model")
    assert "<|im_end|>" in finding.message
    assert words in finding.message
    assert list(end_findings(Inspection(end=EndToken(text="<|im_end|>", id=8)), tmp_path)) == []
