"""The context that the vllm engine asks for, and its words where there is too little."""

from pathlib import Path

import pytest
from tests.services.inference.conftest import CONTEXT_LENGTH, letter_prompts, prompts
from tests.services.inference.vllm.test_engine import SAMPLED, Rig, scores

from craft.errors import ContextTooLong


def test_a_call_asks_for_the_context_of_its_longest_prompt_with_its_reply(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    asked = prompts("x?", "long " * 40)
    rig.engine.generate(asked, SAMPLED)
    longest = max(len(ids) for ids in rig.chat.encode(asked, new_tokens=1))
    assert rig.needed == [longest + SAMPLED.max_new_tokens]


def test_a_stage_asks_once_for_what_all_its_batches_need(tmp_path: Path) -> None:
    """A server that is started for the first batch alone would have to be started again for a longer one."""
    rig = Rig(tmp_path)
    list(rig.engine.generate_each([prompts("x?"), prompts("long " * 40)], SAMPLED, needed=400))
    assert rig.needed == [400]
    scoring = Rig(tmp_path, scores)
    list(scoring.engine.letters_each([letter_prompts("x?")], needed=400))
    assert scoring.needed == [400]


def test_a_server_with_less_context_than_a_stage_needs_is_not_asked(tmp_path: Path) -> None:
    """It would cut replies at its end, without a word."""
    rig = Rig(tmp_path)
    rig.context_length = 300
    with pytest.raises(ContextTooLong, match="context of 400 tokens with its reply, and the server has 300") as refused:
        list(rig.engine.generate_each([prompts("x?")], SAMPLED, needed=400))
    assert "MAX_MODEL_LEN" in str(refused.value.hint)
    assert (rig.requests, rig.open) == ([], 0)


def test_a_server_that_alone_knows_its_context_is_asked_before_prompts_are_measured(tmp_path: Path) -> None:
    rig = Rig(tmp_path, asks_context=True)
    rig.context_length = 300
    found = rig.engine.measure(prompts("x?", "long " * 50), new_tokens=60)
    assert [(each.position, each.limit) for each in found.too_long] == [(1, 300)]
    assert "MAX_MODEL_LEN" in found.longer_context
    assert (rig.opened, rig.open, rig.requests) == (1, 0, [])


def test_a_server_of_ours_is_not_started_to_measure_prompts(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    found = rig.engine.measure(prompts("x?", "long " * 200), new_tokens=60)
    assert [(each.position, each.limit) for each in found.too_long] == [(1, CONTEXT_LENGTH)]
    assert (found.longer_context, rig.opened) == ("", 0)


def test_an_operators_limit_is_named_where_the_model_has_more(tmp_path: Path) -> None:
    found = Rig(tmp_path, own_length=4 * CONTEXT_LENGTH).engine.measure(prompts("long " * 200), new_tokens=60)
    assert "CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN" in found.longer_context


def test_what_runs_is_described_with_the_servers_context(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.context_length = 444
    assert rig.engine.describe().context_length == CONTEXT_LENGTH
    rig.engine.generate(prompts("x?"), SAMPLED)
    assert rig.engine.describe().context_length == 444
