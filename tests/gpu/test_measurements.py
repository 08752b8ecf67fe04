"""Each measurement sees the fault that it is for."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tests.gpu.measurements import full_memory, interruption, machine, memory, one_pass, packing
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.peak_memory import measured_peak

from craft.infra.device.presence import SystemFolders
from craft.infra.worker.child_supervisor import WarmChild
from craft_training.tuning import checkpoints
from craft_training.tuning.batches import Batch, pack
from craft_training.tuning.passes import Cutter, Pass, PassLimits
from craft_training.tuning.samples import Sample

GIB = 2**30


class FakeGpu(Bench):
    """Takes the branches of a GPU while the tensors lie on the CPU."""

    @property
    def on_gpu(self) -> bool:
        return True


class FakeCuda:
    """The numbers that torch.cuda would give."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = 0
        self.allocated = [0]
        self.free = [GIB]
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
            monkeypatch.setattr(torch.cuda, name, lambda: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: self.peak)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: self._next(self.allocated))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (self._next(self.free), 2 * GIB))

    @staticmethod
    def _next(values: list[int]) -> int:
        return values.pop(0) if len(values) > 1 else values[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("cpu", small=True, scratch=tmp_path)


@pytest.fixture
def gpu(tmp_path: Path) -> Bench:
    return FakeGpu("cpu", small=True, scratch=tmp_path)


def test_packing_holds_and_its_comparison_sees_a_leak(bench: Bench) -> None:
    assert packing.in_float32(bench).holds
    assert packing.in_bfloat16(bench).holds
    assert packing.leak_is_seen(bench).holds


def test_a_packed_batch_whose_samples_see_one_another_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(samples: list[Sample]) -> Batch:
        batch = pack(samples)
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"]).tril()
        return batch

    monkeypatch.setattr(packing, "pack", leaky)
    assert packing.in_float32(bench).holds is False
    assert packing.in_bfloat16(bench).holds is False


def test_a_resume_continues_and_ends_at_the_same_adapter(bench: Bench) -> None:
    measured = interruption.resume(bench)
    assert measured.holds, measured.words


def test_a_resume_that_restarts_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.Checkpoints, "latest", lambda _: None)
    measured = interruption.resume(bench)
    assert measured.holds is False
    assert "then step 1," in measured.words


def test_a_resume_that_loses_the_moments_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    restored = torch.optim.AdamW.load_state_dict

    def without_moments(self: torch.optim.AdamW, state: dict[str, object]) -> None:
        restored(self, state | {"state": {}})

    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", without_moments)
    measured = interruption.resume(bench)
    assert measured.holds is False, measured.words


def test_a_killed_child_leaves_nothing_and_the_next_one_resumes(bench: Bench) -> None:
    measured = interruption.kill(bench)
    assert measured.holds, measured.words


def test_a_child_that_outlives_its_kill_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WarmChild.kill

    def spare(self: WarmChild, *, grace_seconds: float | None = None) -> None:
        if grace_seconds is None:  # `close` is called without
            real(self)

    monkeypatch.setattr(WarmChild, "kill", spare)
    monkeypatch.setattr(interruption, "_MAX_SECONDS", 0.5)
    measured = interruption.kill(bench)
    assert measured.holds is False, measured.words


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (1.15, True), (1.3, False), (0.7, False)])
def test_a_peak_apart_from_the_formula_is_broken(
    factor: float, holds: bool, gpu: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    tunings = memory.Tunings(gpu)
    one = memory.TokenPass(256, 2)
    cuda.peak = int(tunings.formula(one) * factor) - tunings.model_bytes
    assert memory.against_formula(tunings, one).holds is holds


def test_the_formula_holds_for_one_pass(bench: Bench) -> None:
    base = memory.Tunings(bench).base
    for checkpointed in (False, True):
        measured = one_pass.one_pass(bench, base, 512, checkpointed=checkpointed)
        assert measured.holds, measured.words


def test_a_pass_that_keeps_what_it_should_compute_again_is_broken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pass, "checkpointing", lambda *_, **__: nullcontext())
    base = memory.Tunings(bench).base
    assert one_pass.one_pass(bench, base, 512, checkpointed=True).holds is False


def test_the_peak_counts_what_lives_at_once(bench: Bench) -> None:
    with measured_peak(bench) as peak:
        first = torch.zeros(1 << 20)
        second = first + 1
        del first
        second *= 2
        third = second.half()
    assert third.numel() == 1 << 20
    assert peak.above_bytes == pytest.approx(8 << 20, rel=1e-4)


@pytest.mark.parametrize(("left", "holds"), [(0, True), (GIB, False)])
def test_memory_that_tuning_keeps_is_broken(
    left: int, holds: bool, gpu: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.allocated = [GIB, GIB + left]
    assert memory.after(gpu, memory.Tunings(gpu), memory.TokenPass(256, 2)).holds is holds


@pytest.mark.parametrize(("left", "holds"), [(0, True), (GIB, False)])
def test_memory_that_the_model_keeps_is_broken(
    left: int, holds: bool, gpu: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.free = [2 * GIB, 2 * GIB - left]
    assert memory.dropped(gpu, memory.Tunings(gpu)).holds is holds


def test_full_memory_is_overcome_and_its_end_is_told(bench: Bench) -> None:
    smaller, alone, nothing = full_memory.checks(bench)
    for check in (smaller, alone, nothing):
        measured = check.measure()
        assert measured.holds, measured.words


def test_a_row_that_is_lost_where_memory_ran_out_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Cutter.cut

    def without_last(self: Cutter, samples: list[Sample], limits: PassLimits) -> list[Pass]:
        passes = cut(self, samples, limits)
        return passes[:-1] if len(passes) > 1 else passes

    monkeypatch.setattr(Cutter, "cut", without_last)
    smaller, *_ = full_memory.checks(bench)
    measured = smaller.measure()
    assert measured.holds is False, measured.words


def test_a_limit_that_stops_nothing_is_broken(bench: Bench) -> None:
    steps = full_memory.Steps(bench, memory.Tunings(bench))
    everything = full_memory.Limit(kept=1.0, checkpointed=1.0)
    assert full_memory.cut_again(steps, everything).holds is False
    assert full_memory.checkpointed(steps, everything).holds is False
    assert full_memory.ends(steps, everything).holds is False


def test_a_gpu_that_torch_does_not_see_is_broken(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = SystemFolders(dev=tmp_path / "dev", proc=tmp_path / "proc", sys=tmp_path / "sys")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.device(bench, system=folders).holds
    folders.dev.mkdir()
    (folders.dev / "nvidia0").touch()
    assert machine.device(bench, system=folders).holds is False


def test_a_wrong_product_is_broken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.product(bench).holds
    monkeypatch.setattr(torch, "randn", lambda *size, **_: torch.full(size, torch.nan))
    assert machine.product(bench).holds is False
