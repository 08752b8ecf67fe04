"""Random streams and the drawing of tokens."""

import numpy as np
import pytest
import torch

from craft_inference.embedded.sampling import draw, uniforms


def test_a_stream_is_the_same_again_and_a_prefix_of_a_longer_one() -> None:
    assert np.array_equal(uniforms(1, "q", 0, 5), uniforms(1, "q", 0, 9)[:5])


@pytest.mark.parametrize("other", [(2, "q", 0), (1, "r", 0), (1, "q", 1)])
def test_seed_prompt_and_sample_each_give_another_stream(other: tuple[int, str, int]) -> None:
    assert not np.array_equal(uniforms(1, "q", 0, 5), uniforms(*other, 5))


def test_temperature_zero_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]])

    assert draw(logits, torch.zeros(2).double(), temperature=0.0, top_p=1.0).tolist() == [1, 0]


@pytest.mark.parametrize("vocabulary", [5, 300, 1024])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_follow_the_distribution(vocabulary: int, temperature: float) -> None:
    torch.manual_seed(3)
    logits = torch.randn(vocabulary) * 2
    count = 40_000
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = draw(logits.expand(count, -1), even, temperature=temperature, top_p=1.0)
    share = torch.bincount(drawn, minlength=vocabulary) / count

    assert torch.allclose(share, torch.softmax(logits / temperature, dim=0), atol=3e-5 + 1 / count)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw(logits.expand(1000, -1), even, temperature=1.0, top_p=0.7)

    assert torch.bincount(drawn, minlength=4).tolist() == pytest.approx([625, 375, 0, 0], abs=1)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn(uniform: float) -> None:
    logits = torch.full((1, 600), -torch.inf)
    logits[0, 301] = logits[0, 302] = 0.0

    expected = 301 if uniform == 0.0 else 302
    assert draw(logits, torch.tensor([uniform]).double(), temperature=1.0, top_p=1.0).tolist() == [expected]
