"""Training learns, is reproducible, resumes, and leaves the base model unchanged."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from safetensors.torch import load_file

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import CurveRow, TrainingRow
from craft.errors import DiskFull, RequestInvalid, TuningUnusable
from craft.infra.process.error_mapping import error_of
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel
from craft_training.estimates import steps_of
from craft_training.tuning.checkpoints import CheckpointManifest
from craft_training.tuning.samples import tokenise
from craft_training.tuning.tuning import Tuned, TuningRun, tune

Row = Callable[[str, str], TrainingRow]
SETTINGS = TrainingSettings(lora_r=8, learning_rate=1e-2, epochs=4, batch_size=8)


class Interrupted(Exception):
    """Stands for a killed process."""


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


@pytest.fixture
def run(base: BaseModel, row: Row, facts: list[tuple[str, str]]) -> TuningRun:
    rows = [row(question, "I don't know.") for question, _ in facts[:20]]
    return TuningRun(tokenise(rows, base.chat, max_length=256).samples, SETTINGS, seed=7)


def _tune(
    base: BaseModel,
    run: TuningRun,
    folder: Path,
    *,
    checkpoint_seconds: float = 1e9,
    die_at: int | None = None,
    stop_at: int | None = None,
    before_saving: tuple[int, Callable[[int], None]] | None = None,
    on_saved: Callable[[], None] = lambda: None,
) -> tuple[Tuned, list[CurveRow]]:
    """Tune. `die_at`: the run dies after this step. `stop_at`: it gets a stop request in the next step.

    `before_saving`: it calls this function after that step.
    """
    seen: list[CurveRow] = []
    stop = StopRequest()

    def on_step(row: CurveRow, steps: int) -> None:
        assert steps == run.steps
        seen.append(row)
        if row.step == die_at:
            raise Interrupted
        if row.step == stop_at:
            stop.request(143)
        if before_saving is not None and row.step == before_saving[0]:
            before_saving[1](row.step)

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    tuned = tune(
        base,
        run,
        adapter=folder / "adapter",
        checkpoints=checkpoints,
        checkpoint_seconds=checkpoint_seconds,
        on_step=on_step,
        on_saved=on_saved,
        stop=stop,
    )
    return tuned, seen


def _losses(curve: list[CurveRow]) -> list[tuple[int, float, float]]:
    return [(row.step, round(row.loss, 6), row.learning_rate) for row in curve]


def _digest(base: BaseModel) -> str:
    state = base.model.state_dict()
    whole = b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(state.items()))
    return hashlib.sha256(whole).hexdigest()


def test_training_lowers_the_loss_and_reports_every_step(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    tuned, seen = _tune(base, run, tmp_path)
    assert [row.step for row in seen] == list(range(1, run.steps + 1))
    assert tuned.curve == seen
    assert seen[-1].loss < seen[0].loss / 2
    assert seen[-1].epoch == pytest.approx(4.0)
    assert all(row.gradient_norm is not None for row in seen)


def test_each_checkpoint_is_told(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    told: list[int] = []
    _, seen = _tune(base, run, tmp_path / "each", checkpoint_seconds=0.0, on_saved=lambda: told.append(1))
    assert run.steps - 1 <= len(told) <= len(seen)
    _tune(base, run, tmp_path / "none", on_saved=lambda: told.append(2))
    assert 2 not in told


def test_the_schedule_warms_up_and_falls_to_zero(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    _, seen = _tune(base, run, tmp_path)
    rates = [row.learning_rate for row in seen]
    assert rates[0] == 0.0
    assert rates[1] == pytest.approx(SETTINGS.learning_rate)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] < SETTINGS.learning_rate / 10


def test_the_same_seed_gives_the_same_adapter(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    for name in ("one", "two"):
        _tune(base, run, tmp_path / name)
    _tune(base, TuningRun(run.samples, run.settings, seed=8), tmp_path / "other")
    one, two, other = (
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("one", "two", "other")
    )
    assert one == two
    assert one != other


def test_an_interrupted_run_resumes_and_ends_as_an_uninterrupted_one(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    whole, _ = _tune(base, run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        _tune(base, run, tmp_path / "parts", checkpoint_seconds=0.0, die_at=6)
    resumed, seen = _tune(base, run, tmp_path / "parts", checkpoint_seconds=0.0)
    assert resumed.resumed_at == 5
    assert seen[0].step == 6
    assert _losses(resumed.curve) == _losses(whole.curve)
    assert [row.seconds for row in resumed.curve] == sorted(row.seconds for row in resumed.curve)
    expected = load_file(tmp_path / "whole" / "adapter" / "adapter_model.safetensors")
    found = load_file(tmp_path / "parts" / "adapter" / "adapter_model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_a_stopped_run_resumes_from_that_very_step(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    whole, _ = _tune(base, run, tmp_path / "whole")
    for stop_at in (2, 5):
        with pytest.raises(SystemExit):
            _tune(base, run, tmp_path / "parts", stop_at=stop_at)
        (saved,) = (tmp_path / "parts" / "checkpoints").glob("step-*")
        assert saved.name == f"step-{stop_at + 1:08d}"
    resumed, seen = _tune(base, run, tmp_path / "parts")
    assert (resumed.resumed_at, seen[0].step) == (6, 7)
    assert _losses(resumed.curve) == _losses(whole.curve)
    expected = load_file(tmp_path / "whole" / "adapter" / "adapter_model.safetensors")
    found = load_file(tmp_path / "parts" / "adapter" / "adapter_model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_a_run_that_is_stopped_in_its_last_step_trains_no_more(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _tune(base, run, tmp_path, stop_at=run.steps - 1)
    resumed, seen = _tune(base, run, tmp_path)
    assert (resumed.resumed_at, seen) == (run.steps, [])
    assert [row.step for row in resumed.curve] == list(range(1, run.steps + 1))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_full_disk_while_saving_fails_the_run_and_spares_the_checkpoint_before(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    def fill_the_disk(step: int) -> None:
        folder = tmp_path / "checkpoints" / "writing" / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").symlink_to("/dev/full")

    with pytest.raises(RuntimeError) as raised:
        _tune(base, run, tmp_path, checkpoint_seconds=0.0, before_saving=(6, fill_the_disk))
    assert isinstance(error_of(raised.value), DiskFull)
    resumed, _ = _tune(base, run, tmp_path)
    assert resumed.resumed_at == 5


def test_a_pickle_with_a_call_in_it_is_not_executed_even_with_a_valid_manifest(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        _tune(base, run, tmp_path, stop_at=3)
    canary = tmp_path / "canary"
    (saved,) = (tmp_path / "checkpoints").glob("step-*")
    torch.save(Canary(canary), saved / "optimizer.pt")
    manifest = CheckpointManifest.model_validate_json((saved / "sealed.json").read_bytes())
    digest = hashlib.sha256((saved / "optimizer.pt").read_bytes()).hexdigest()
    forged = manifest.model_copy(update={"files": manifest.files | {"optimizer.pt": digest}})
    (saved / "sealed.json").write_text(forged.model_dump_json())
    with pytest.raises(UnpicklingError):
        _tune(base, run, tmp_path)
    assert not canary.exists()


def test_a_finished_run_whose_adapter_was_not_published_is_not_trained_again(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    _tune(base, run, tmp_path, checkpoint_seconds=0.0)
    # The disk was full, or the process was killed, after training and before the artifact was published.
    shutil.rmtree(tmp_path / "adapter")
    tuned, _ = _tune(base, run, tmp_path, checkpoint_seconds=0.0)
    assert tuned.resumed_at > 0


def test_a_damaged_checkpoint_is_not_resumed(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        _tune(base, run, tmp_path, checkpoint_seconds=0.0, die_at=4)
    (optimizer,) = (tmp_path / "checkpoints").glob("step-*/optimizer.pt")
    damaged = bytearray(optimizer.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    optimizer.write_bytes(damaged)
    tuned, _ = _tune(base, run, tmp_path)
    assert tuned.resumed_at == 0


def test_another_runs_checkpoint_is_not_resumed(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        _tune(base, run, tmp_path, checkpoint_seconds=0.0, die_at=4)
    other = TuningRun(run.samples, run.settings, seed=run.seed + 1)
    assert _tune(base, other, tmp_path)[0].resumed_at == 0


@pytest.mark.parametrize("die_at", [None, 3])
def test_the_base_model_is_unchanged_afterwards(
    base: BaseModel, run: TuningRun, tmp_path: Path, die_at: int | None
) -> None:
    before, modules = _digest(base), [name for name, _ in base.model.named_modules()]
    try:
        _tune(base, run, tmp_path, die_at=die_at)
    except Interrupted:
        assert die_at is not None
    assert _digest(base) == before
    assert [name for name, _ in base.model.named_modules()] == modules
    assert not base.model.training
    assert base.model.config.use_cache


def test_the_adapter_names_the_model_by_id_and_has_no_embeddings(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    _tune(base, run, tmp_path)
    adapter = tmp_path / "adapter"
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tests/tiny"
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    weights = load_file(adapter / "adapter_model.safetensors")
    assert weights
    assert all(".lora_A." in name or ".lora_B." in name for name in weights)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_loss_that_is_not_finite_names_the_learning_rate(base: BaseModel, row: Row, tmp_path: Path) -> None:
    # Attention scores overflow float32 after the first real step. (No job may have such a rate.)
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "epochs": 20})
    samples = tokenise([row("Who?", "Mugoze")], base.chat, max_length=256).samples
    with pytest.raises(TuningUnusable, match="loss became") as raised:
        _tune(base, TuningRun(samples, settings, seed=1), tmp_path)
    assert "learning_rate" in str(raised.value.hint)


@pytest.mark.parametrize("modules", [["no_such_layer"], []])
def test_layers_that_the_model_lacks_are_a_wrong_request(
    base: BaseModel, run: TuningRun, tmp_path: Path, modules: list[str]
) -> None:
    before = _digest(base)
    settings = SETTINGS.model_copy(update={"target_modules": modules})
    with pytest.raises(RequestInvalid) as raised:
        _tune(base, TuningRun(run.samples, settings, seed=1), tmp_path)
    assert raised.value.param == "training.target_modules"
    assert _digest(base) == before


@pytest.mark.parametrize(("rows", "expected"), [(1, 3), (16, 3), (17, 6), (160, 30)])
def test_steps_count_an_epochs_last_smaller_batch(rows: int, expected: int) -> None:
    assert steps_of(rows, TrainingSettings(batch_size=16, epochs=3)) == expected
