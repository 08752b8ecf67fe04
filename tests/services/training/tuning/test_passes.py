"""Passes keep to the device's memory by the estimate, and cost no more than they must."""

from dataclasses import replace

import pytest
import torch

from craft.contracts.spec.jobs import TrainingSettings
from craft.errors import GpuTooSmall
from craft.infra.models.shape import ModelShape
from craft.infra.models.training_memory import training_memory
from craft_training.tuning.device_memory import DeviceMemory, check_rows, device_memory, first_limits
from craft_training.tuning.passes import Cutter, Pass, PassLimit, PassLimits
from craft_training.tuning.samples import Sample

GIB = 2**30
HIDDEN, INNER, LAYERS = 4096, 14_336, 32
SHAPE = ModelShape(
    matrices={
        f"model.layers.{layer}.{name}.weight": sizes
        for layer in range(LAYERS)
        for name, sizes in {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (1024, HIDDEN),
            "self_attn.v_proj": (1024, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
        }.items()
    },
    parameters=8_030_261_248,
    layers=LAYERS,
    hidden=HIDDEN,
    vocabulary=128_256,
    context_length=8192,
    tied=False,
)
"""Llama-3-8B's."""
CUTTER = Cutter(training_memory(SHAPE, TrainingSettings(), weight_bytes=2), packed=True, checkpointing=True)


def device(gib: int) -> DeviceMemory:
    """A device with an 8B model in bfloat16 on it, and nothing else."""
    weights = CUTTER.memory.weights
    return DeviceMemory(total=gib * GIB, free=gib * GIB - weights, own=weights)


def rows(count: int, *, shared: int, own: int, target: int = 20) -> list[Sample]:
    """Rows of a shared beginning, then tokens of their own, and a target."""
    return [
        Sample(
            f"row {at}", (*range(shared), *(10_000 + at * own + token for token in range(own + target))), shared + own
        )
        for at in range(count)
    ]


def tokens(passes: list[Pass]) -> int:
    return sum(each.size.tokens for each in passes)


def test_the_first_limits_leave_room_for_the_adapter_and_count_what_the_allocator_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (30 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 40 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 16 * GIB)
    found = device_memory(torch.device("cuda"))
    assert found == DeviceMemory(total=80 * GIB, free=54 * GIB, own=16 * GIB)
    assert found.others == 10 * GIB
    limits = first_limits(CUTTER.memory, found)
    assert limits.kept.together is not None
    assert 40 * GIB < limits.kept.together < 54 * GIB - CUTTER.memory.adapter


def test_a_processor_has_no_limits() -> None:
    assert device_memory(torch.device("cpu")) is None
    assert first_limits(CUTTER.memory, None) == PassLimits()


@pytest.mark.parametrize(
    ("gib", "least", "most"), [(140, 4000, 4096), (80, 4000, 4096), (48, 1500, 3500), (24, 150, 700)]
)
def test_unlike_rows_fill_the_device(gib: int, least: int, most: int) -> None:
    samples = rows(60, shared=0, own=80)
    passes = CUTTER.cut(samples, first_limits(CUTTER.memory, device(gib)))
    assert least <= max(each.size.tokens for each in passes) <= most
    assert not any(each.checkpointed for each in passes)
    assert [sample for each in passes for sample in each.samples] == samples


def test_rows_that_begin_alike_are_checkpointed_together_where_memory_would_part_them() -> None:
    samples = rows(16, shared=450, own=40)
    passes = CUTTER.cut(samples, first_limits(CUTTER.memory, device(24)))
    assert all(each.checkpointed for each in passes)
    assert len(passes) == 1
    large = CUTTER.cut(samples, first_limits(CUTTER.memory, device(80)))
    assert [each.checkpointed for each in large] == [False]


def test_only_the_row_that_is_too_long_is_checkpointed() -> None:
    samples = [*rows(8, shared=0, own=200), *rows(1, shared=0, own=3000)]
    passes = CUTTER.cut(samples, first_limits(CUTTER.memory, device(24)))
    assert [len(each.samples[0].tokens) > 3000 for each in passes] == [each.checkpointed for each in passes]
    assert any(each.checkpointed for each in passes)
    without = replace(CUTTER, checkpointing=False).cut(samples, first_limits(CUTTER.memory, device(24)))
    assert not any(each.checkpointed for each in without)
    assert tokens(without) == tokens(passes)


def test_without_known_limits_a_pass_has_at_most_4096_tokens() -> None:
    passes = CUTTER.cut(rows(100, shared=0, own=80), PassLimits())
    assert max(each.size.tokens for each in passes) in range(4000, 4097)


def test_limits_only_fall_until_nothing_is_left_to_try() -> None:
    samples, limits = rows(9, shared=5, own=40), PassLimits()
    seen = [limits]
    while True:
        found = CUTTER.smaller(CUTTER.cut(samples, limits)[0], limits)
        if found is None:
            break
        limits = found
        assert limits not in seen
        seen.append(limits)
    assert limits.kept.alone is not None
    assert len(seen) < 20


def test_a_row_that_was_too_large_alone_does_not_raise_the_limit_of_several() -> None:
    [alone] = CUTTER.cut(rows(1, shared=0, own=500), PassLimits())
    limits = CUTTER.smaller(alone, PassLimits(kept=PassLimit(together=5)))
    assert limits is not None
    assert limits.kept == PassLimit(together=5, alone=alone.needs - 1)


def test_rows_that_can_never_fit_are_told_before_training_with_their_lines() -> None:
    short = rows(3, shared=0, own=300)
    long = replace(rows(1, shared=0, own=40_000)[0], name="line 7", line=7)
    check_rows([*short, long], CUTTER, device(80))
    with pytest.raises(GpuTooSmall, match=r"1 of 4 training rows .* line 7, 40,020 tokens") as raised:
        check_rows([*short, long], CUTTER, device(24))
    assert [each.line for each in raised.value.details] == [7]
    assert not raised.value.retryable
    check_rows([*short, long], CUTTER, None)
