"""A real vLLM's context: by default 4,096 tokens, more where a stage needs more, and full to the last token."""

from pathlib import Path

import pytest
from tests.vllm.conftest import running

from craft.contracts.services.model_server import ModelLeaseRequest
from craft.core.prompts import ModelMessage
from craft.errors import HostOutOfMemory
from craft_inference.engine import Prompt, Sampling
from craft_inference.vllm.engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

NEW = Sampling(max_new_tokens=8)


def needs(engine: VllmEngine, words: int) -> tuple[Prompt, int]:
    """A prompt of about so many tokens, and the context that it needs with its reply."""
    prompt = Prompt("long", (ModelMessage("user", "word " * words),))
    [found] = engine.measure([prompt], new_tokens=10_000).too_long
    return prompt, found.tokens + NEW.max_new_tokens


def test_a_stage_that_needs_more_gets_it_and_a_prompt_fits_to_the_last_token(tmp_path: Path, models: Path) -> None:
    with running(tmp_path / "grows", models, without=("MAX_MODEL_LEN",)) as rig:
        engine = rig.engine(asks_context=False, own_context=True)
        assert len(engine.generate([Prompt("short", (ModelMessage("user", "Say a word."),))], NEW).rows) == 1
        assert (rig.view().context_length, rig.view().starts) == (4096, 1)
        _, overhead = needs(engine, 100)
        prompt, needed = needs(engine, 5120 - overhead + 100)
        assert needed == 5120
        [row] = engine.generate([prompt], NEW).rows
        assert len(row.texts) == 1
        assert (rig.view().context_length, rig.view().starts) == (5120, 2)


def test_a_context_without_memory_is_refused_with_its_numbers(tmp_path: Path, models: Path) -> None:
    settings = {"VLLM__MAX_MODEL_LEN": "8192", "VLLM__EXTRA_ARGUMENTS": '["--kv-cache-memory-bytes", "40000000"]'}
    with running(tmp_path / "tight", models, **settings) as rig, rig.http as http:
        request = ModelLeaseRequest(base=rig.base(), has_device=True)
        problem = http.post("/v1/leases", json=request.model_dump(mode="json")).json()
    assert problem["code"] == HostOutOfMemory.code
    assert "one sequence of 8,192 tokens needs" in problem["detail"]
    assert "CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN to " in problem["hint"]
