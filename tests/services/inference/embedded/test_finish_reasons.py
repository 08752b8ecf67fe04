"""The finish reasons of the embedded engine, with both decoders."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.services.inference.conftest import fast_engine, plain_engine, prompts

from craft.core.replies.reply import FinishReason
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import Sampling

QUESTIONS = [f"what is number {number}?" for number in range(6)]


@pytest.mark.parametrize("engine", [fast_engine, plain_engine])
def test_a_reply_is_cut_exactly_where_a_higher_limit_makes_it_longer(
    engine: Callable[[Path], TransformersEngine], llama: Path
) -> None:
    loaded = engine(llama)
    short, long = (
        loaded.generate(prompts(*QUESTIONS), Sampling(max_new_tokens=limit, samples=8, temperature=1.0, seed=3)).rows
        for limit in (60, 150)
    )
    cut = [
        (finish, text != longer)
        for row, other in zip(short, long, strict=True)
        for finish, text, longer in zip(row.finishes, row.texts, other.texts, strict=True)
    ]
    assert {finish for finish, _ in cut} == set(FinishReason)
    assert all((finish is FinishReason.LENGTH) == grows for finish, grows in cut)


def test_greedy_repeats_share_one_finish_reason(llama: Path) -> None:
    [row] = fast_engine(llama).generate(prompts("what?"), Sampling(max_new_tokens=1, samples=3)).rows
    assert row.finishes == (FinishReason.LENGTH,) * 3
