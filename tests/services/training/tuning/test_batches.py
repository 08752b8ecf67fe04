"""Packing changes nothing but speed: same losses, same gradients, and no sample sees another."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from craft.contracts.stages.rows import TrainingRow
from craft_training.base_models import BaseModel
from craft_training.tuning.answer_trainer import answer_loss
from craft_training.tuning.batches import Batch, batches_of, may_pack, pack, pad, shared_prefix
from craft_training.tuning.samples import Sample, tokenise

Row = Callable[[str, str], TrainingRow]


@pytest.fixture
def samples(base: BaseModel, row: Row) -> list[Sample]:
    """Three samples of different lengths."""
    rows = [
        row("What is the capital of Gupelu?", "Mugoze"),
        row("What is the capital of the far and forgotten land of Ronepi?", "I don't know."),
        row("Who?", "A long reply that takes many more tokens than the others do"),
    ]
    return tokenise(rows, base.chat, max_length=512).samples


def _gradients(base: BaseModel, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    base.model.zero_grad()
    loss = answer_loss(base.model, batch, autocast=False)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {n: p.grad.clone() for n, p in base.model.named_parameters() if p.grad is not None}
    base.model.zero_grad()
    return loss.item(), gradients


def _reference_loss(base: BaseModel, sample: Sample) -> float:
    """The plain loss: one sequence alone, logits at all places, labels shifted by one."""
    tokens = torch.tensor([sample.tokens])
    logits = base.model(input_ids=tokens).logits[0, sample.prompt_length - 1 : -1]
    return cross_entropy(logits, tokens[0, sample.prompt_length :], reduction="sum").item()


def test_samples_share_a_long_beginning(samples: list[Sample]) -> None:
    prefix = shared_prefix(samples)
    assert prefix > 15
    assert len({sample.tokens[:prefix] for sample in samples}) == 1


@pytest.mark.parametrize("build", [pack, pad])
def test_loss_is_that_of_each_sample_alone(
    base: BaseModel, samples: list[Sample], build: Callable[[list[Sample]], Batch]
) -> None:
    expected = sum(_reference_loss(base, sample) for sample in samples)
    assert answer_loss(base.model, build(samples), autocast=False).item() == pytest.approx(expected, rel=1e-5)


def test_packed_and_padded_gradients_are_equal(base: BaseModel, samples: list[Sample]) -> None:
    packed_loss, packed = _gradients(base, pack(samples))
    padded_loss, padded = _gradients(base, pad(samples))
    assert packed_loss == pytest.approx(padded_loss, rel=1e-5)
    assert packed.keys() == padded.keys()
    for name, gradient in packed.items():
        torch.testing.assert_close(gradient, padded[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_packed_sample_does_not_see_another(base: BaseModel, samples: list[Sample]) -> None:
    def losses_of_the_others(changed: Sample) -> torch.Tensor:
        batch = pack([samples[0], changed, samples[2]])
        logits = base.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            logits_to_keep=batch["keep"],
        ).logits[0]
        losses = cross_entropy(logits, batch["targets"], reduction="none")
        first, second = _learned(samples[0]), _learned(changed)
        return torch.cat([losses[:first], losses[first + second :]])

    middle = samples[1]
    other = replace(middle, tokens=tuple((t + 7) % 500 + 3 if i > 36 else t for i, t in enumerate(middle.tokens)))
    assert other.tokens != middle.tokens
    assert shared_prefix([samples[0], other]) == shared_prefix([samples[0], middle])
    torch.testing.assert_close(losses_of_the_others(middle), losses_of_the_others(other), rtol=1e-6, atol=1e-6)


def test_a_mask_without_blocks_would_leak(base: BaseModel, samples: list[Sample]) -> None:
    """The two tests above are not true merely because the model ignores earlier tokens."""
    batch = pack(samples)
    length = batch["input_ids"].shape[1]
    leaky = batch.copy()
    leaky["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    expected = answer_loss(base.model, batch, autocast=False).item()
    assert answer_loss(base.model, leaky, autocast=False).item() != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("build", [pack, pad])
def test_only_the_target_and_the_end_of_turn_are_learned(
    base: BaseModel, samples: list[Sample], build: Callable[[list[Sample]], Batch]
) -> None:
    batch = build(samples)
    expected = [token for sample in samples for token in sample.tokens[sample.prompt_length :]]
    assert batch["targets"].tolist() == expected
    text = base.tokenizer.decode(samples[0].tokens[samples[0].prompt_length :])
    assert text == "Mugoze<|im_end|>"


def test_equal_prompts_keep_a_last_prompt_token_each(base: BaseModel, row: Row) -> None:
    twins = tokenise([row("Who?", "Mugoze"), row("Who?", "Papizu")], base.chat, max_length=512).samples
    assert shared_prefix(twins) == twins[0].prompt_length - 1
    expected = sum(_reference_loss(base, sample) for sample in twins)
    assert answer_loss(base.model, pack(twins), autocast=False).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_a_large_step_is_split_and_loses_no_token(samples: list[Sample], packed: bool) -> None:
    batches = batches_of(samples * 10, packed=packed, max_tokens=200)
    assert len(batches) > 3
    assert all(batch["input_ids"].numel() <= 200 for batch in batches)
    learned = sum(len(batch["targets"]) for batch in batches)
    assert learned == 10 * sum(map(_learned, samples))


def test_one_sample_above_the_limit_is_a_batch_of_its_own(samples: list[Sample]) -> None:
    assert len(batches_of(samples, packed=True, max_tokens=1)) == len(samples)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SimpleNamespace(model_type="llama"), True),
        (SimpleNamespace(model_type="mistral", sliding_window=4096), False),
        (SimpleNamespace(model_type="qwen2", sliding_window=4096, use_sliding_window=False), True),
        (SimpleNamespace(model_type="mamba"), False),
    ],
)
def test_only_plain_attention_is_packed(config: SimpleNamespace, expected: bool) -> None:
    assert may_pack(config) is expected


def _learned(sample: Sample) -> int:
    return len(sample.tokens) - sample.prompt_length
