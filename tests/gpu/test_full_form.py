"""The full form's shape and limits, without a GPU: a model without memory has the shape of the real one."""

from pathlib import Path

import pytest
import torch
from tests.gpu.measurements import full_memory
from tests.gpu.measurements.memory import Tunings
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.shapes import eight_billion, make_base
from tests.gpu.rig.small_device import limited_gpu

from craft.infra.models.training_memory import PassSize, training_memory
from craft_training.base_models import BaseModel
from craft_training.model_shape import shape_of

GIB = 2**30
RESERVED, TOTAL = 16 * GIB, 140 * GIB


class FakeGpu(Bench):
    """A GPU's branches."""

    @property
    def on_gpu(self) -> bool:
        return True


class LargeTunings(Tunings):
    """Over a model that is there already."""

    def __init__(self, bench: Bench, base: BaseModel) -> None:
        super().__init__(bench)
        self._base = base


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of the device that were allowed, one after another."""
    allowed: list[float] = []
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (TOTAL - RESERVED, TOTAL))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: RESERVED)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", allowed.append)
    return allowed


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return make_base(eight_billion(), Bench("meta", small=False, scratch=tmp_path), dtype=torch.bfloat16)


def test_the_large_shape_is_that_of_llama_3_8b(base: BaseModel) -> None:
    assert shape_of(base.model).parameters == 8_030_261_248
    assert base.model.dtype is torch.bfloat16


def test_a_limit_is_beside_what_the_process_has_and_ends_with_the_block(tmp_path: Path, fractions: list[float]) -> None:
    with limited_gpu(FakeGpu("cpu", small=True, scratch=tmp_path), 19 * GIB):
        assert fractions == [0.25]
    assert fractions == [0.25, 1.0]


def test_the_limits_stop_what_they_are_for_and_no_more(base: BaseModel, tmp_path: Path, fractions: list[float]) -> None:
    gpu = FakeGpu("cuda", small=False, scratch=tmp_path)
    steps = full_memory.Steps(gpu, LargeTunings(gpu, base))
    rooms = []
    for check in full_memory.checks(gpu):
        with steps.limited_to(check.measure.args[1]):  # type: ignore[attr-defined]
            rooms.append(round(fractions[-1] * TOTAL) - RESERVED)
    smaller, alone, nothing = rooms
    memory = training_memory(shape_of(base.model), full_memory.SETTINGS, weight_bytes=2)
    whole, half, row, again = (
        memory.adapter + memory.pass_bytes(PassSize(tokens, rows * 8, tokens**2), checkpointed=checkpointed)
        for tokens, rows, checkpointed in ((4096, 4, False), (2048, 2, False), (1024, 1, False), (1024, 1, True))
    )
    assert 1.2 * half < smaller < whole / 1.2
    assert 1.2 * again < alone < row / 1.2
    assert nothing < 2 * 4 * shape_of(base.model).lora_parameters(full_memory.SETTINGS)
