"""QLoRA: an adapter trained on weights of 4 bits, on the real bitsandbytes; packages compare on whole weights.

The tests with bitsandbytes run in the environment of `make test-nf4`.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.services.training.packaging.package_inputs import evaluation_document, taught_rows

from craft.contracts.spec.jobs import PromptSettings, Quantization, TrainingSettings
from craft.contracts.stages.parameters import PackageParameters, TrainerRef, TuneParameters
from craft.contracts.stages.rows import QuestionRow, ReplyRow
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import DeploymentChanged
from craft.infra.models.folders import ModelFolders
from craft.infra.models.shape import read_shape
from craft.infra.models.training_memory import training_memory
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import write_rows
from craft_training import quantized
from craft_training.base_models import BaseModels
from craft_training.model_shape import shape_of
from craft_training.packaging.comparison import QuantizationChanges, changes_of, replies_of
from craft_training.stages import TrainingStages
from craft_training.tuning.samples import Sample
from craft_training.tuning.throughput import KnownThroughput
from craft_training.tuning.tuning import TuningRun

Facts = list[tuple[str, str]]
FLOAT32 = TrainerRef(dtype="float32")
NF4 = Quantization.NF4
PROMPTS = PromptSettings()
SETTINGS = TrainingSettings(lora_r=16, learning_rate=1e-2, epochs=12, batch_size=8, quantization=NF4)
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def own_models(folders: ModelFolders) -> BaseModels:
    """Models of this module's own: the shared ones stay loaded for other tests."""
    return BaseModels(folders, TrainingServiceSettings(device="cpu", threads=1))


@pytest.fixture
def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)


@pytest.mark.usefixtures("without_bitsandbytes")
def test_a_worker_without_bitsandbytes_leaves_the_stage_to_others(
    own_models: BaseModels, folders: ModelFolders
) -> None:
    with pytest.raises(DeploymentChanged, match="bitsandbytes is not installed") as raised:
        own_models.get(folders.find("tests/tiny").ref, FLOAT32, NF4)
    assert "CRAFT_TRAINING__NF4" in str(raised.value.hint)


@pytest.mark.usefixtures("without_bitsandbytes")
def test_a_worker_whose_settings_promise_it_does_not_start_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from craft_training import worker

    monkeypatch.setenv("CRAFT_TRAINING__NF4", "true")
    monkeypatch.setattr(worker, "run", lambda *_: pytest.fail("it started"))
    with pytest.raises(SystemExit, match="CRAFT_TRAINING__NF4 is set"):
        worker.main()


def test_replies_that_differ_and_refusals_that_flip_are_counted_apart() -> None:
    trained = ["Paris", "I don't know.", "Rome", "I don't know."]
    served = ["Paris", "Berlin", "Roma", "I don't know"]
    found = changes_of(PROMPTS, trained, served)
    assert found == QuantizationChanges(differing=3, flips=1, compared=4)
    assert "Of 4 held-out replies 3 differ between the two, 1 of them" in found.finding.message


@pytest.fixture(scope="module")
def tuned(
    own_models: BaseModels, folders: ModelFolders, facts: Facts, known: Facts, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The inputs of a package stage, from a real tuning in 4 bits; the engine's replies are those on whole weights."""
    root = tmp_path_factory.mktemp("nf4")
    inputs = {name: root / name for name in ("questions", "tuned", "rows", "candidate", "evaluation", "checkpoint")}
    for folder in inputs.values():
        folder.mkdir()
    write_rows(inputs["rows"] / "training.jsonl", taught_rows(facts[:20], known))
    model = folders.find("tests/tiny").ref
    stages = TrainingStages(own_models, checkpoint_seconds=1e9, throughput=KnownThroughput())
    stages.tune(
        TuneParameters(model=model, trainer=FLOAT32, training=SETTINGS, seed=1),
        LocalContext(inputs["tuned"], inputs.pop("checkpoint"), {"rows": inputs["rows"]}),
    )
    held_out = [
        QuestionRow(id=f"h{at}", question=question, answers=[answer]) for at, (question, answer) in enumerate(facts)
    ]
    write_rows(inputs["questions"] / "held_out.jsonl", held_out)
    _serve(inputs, [""] * len(facts))
    context = LocalContext(root, root, inputs)
    replies = replies_of(_package(folders), context, own_models.get(model, FLOAT32))
    step = -(-len(facts) // 32)
    _serve(inputs, [replies[at // step] for at in range(len(facts))])
    (inputs["evaluation"] / "evaluation.json").write_text(evaluation_document().model_dump_json())
    return inputs


def _serve(inputs: dict[str, Path], replies: list[str]) -> None:
    rows = [ReplyRow(set="held_out", id=f"h{at}", reply=reply) for at, reply in enumerate(replies)]
    write_rows(inputs["candidate"] / "replies.jsonl", rows)


def _package(folders: ModelFolders) -> PackageParameters:
    return PackageParameters(
        task=Task.OPEN_ENDED,
        model=folders.find("tests/tiny").ref,
        trainer=FLOAT32,
        strategy=Strategy.CRAFT,
        prompts=PROMPTS,
        max_new_tokens=8,
        quantization=NF4,
    )


@needs_bitsandbytes
def test_linear_maps_have_4_bits_and_the_model_is_restored_after_tuning(
    own_models: BaseModels, folders: ModelFolders, tuned: dict[str, Path]
) -> None:
    base = own_models.get(folders.find("tests/tiny").ref, FLOAT32, NF4)
    kinds = {type(module).__name__ for name, module in base.model.named_modules() if name.endswith("_proj")}
    assert kinds == {"Linear4bit"}
    assert base.model.get_output_embeddings().weight.dtype is torch.float32
    assert not any("lora" in name for name, _ in base.model.named_modules())
    assert base.quantization is NF4
    whole = own_models.get(base.ref, FLOAT32)
    assert whole.quantization is Quantization.NONE
    assert {type(module).__name__ for name, module in whole.model.named_modules() if name.endswith("_proj")} == {
        "Linear"
    }


@needs_bitsandbytes
def test_the_estimate_is_of_the_weights_in_4_bits(own_models: BaseModels, folders: ModelFolders) -> None:
    base = own_models.get(folders.find("tests/tiny").ref, FLOAT32, NF4)
    held = sum(weight.untyped_storage().nbytes() for weight in base.model.parameters())
    shape = shape_of(base.model)
    assert shape == read_shape(base.folder)
    largest = 4 * max(outputs * inputs for outputs, inputs in shape.matrices.values())
    assert training_memory(shape, SETTINGS, weight_bytes=4).weights - largest == pytest.approx(held, rel=0.1)


@needs_bitsandbytes
def test_the_package_compares_on_whole_weights_and_tells_the_replies_that_4_bits_change(
    own_models: BaseModels, folders: ModelFolders, tuned: dict[str, Path], tmp_path: Path
) -> None:
    stages = TrainingStages(own_models, checkpoint_seconds=1e9, throughput=KnownThroughput())
    context = LocalContext(tmp_path, tmp_path, tuned)
    result = stages.package(_package(folders), context)
    assert (result.counts["compared"], result.metrics["agreeing_share"]) == (20, 1.0)
    [finding] = result.findings
    assert finding.code == "trained_on_other_weights"
    assert f"{result.counts['quantization_differing']} differ between the two" in finding.message
    assert result.counts["quantization_flips"] <= result.counts["quantization_differing"]
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "trained_on_other_weights" in card


def test_a_run_in_4_bits_does_not_resume_one_on_whole_weights() -> None:
    samples = [Sample("a", (1, 2, 3), 1)]
    runs = [TuningRun(samples, TrainingSettings(quantization=kind), seed=1) for kind in Quantization]
    assert len({run.fingerprint for run in runs}) == len(Quantization)
