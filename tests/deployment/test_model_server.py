"""The model server beside the worker: who uses it, what it may touch, and who takes turns with it on one GPU."""

import re
import subprocess
import sys
import tomllib
from urllib.parse import urlsplit

import pytest
from tests.deployment.files import (
    GPU_OVERLAYS,
    ROOT,
    Process,
    compose,
    compose_processes,
    filled_in,
    kubernetes_processes,
    of_kind,
    rendered,
)

from craft.infra.settings.settings import Settings

WAYS = ("compose", *GPU_OVERLAYS)
TAKING_TURNS = {"model-server", "inference-worker", "training-worker"}
DEVICE = "/var/lib/craft/device"


def deployed(way: str) -> dict[str, Process]:
    """The processes of a way to deploy on GPUs, by name; Compose's under the names that Kubernetes gives them."""
    if way != "compose":
        return {process.name: process for process in kubernetes_processes(rendered(way))}
    found = {process.name: process for process in compose_processes()}
    found["training-worker"] = found.pop("training-worker-gpu")
    return found


@pytest.fixture(params=WAYS)
def gpu_processes(request: pytest.FixtureRequest) -> dict[str, Process]:
    return deployed(request.param)


def settings_of(process: Process, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the process reads with `.env` filled in for the profile `gpu`."""
    chosen = {"CRAFT_INFERENCE__ENGINE": "vllm", "CRAFT_INFERENCE__DEVICE": "cuda", "CRAFT_TRAINING__DEVICE": "cuda"}
    with monkeypatch.context() as patched:
        for name, value in process.environment.items():
            plain = re.sub(r"\$\{(\w+):-(\w*)\}", lambda found: chosen.get(found[1], found[2]), value)
            patched.setenv(name, filled_in(plain))
        return Settings()


def test_the_engine_is_vllm_for_whoever_plans_or_computes(
    gpu_processes: dict[str, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gateway", "coordinator", "inference-worker", "model-server", "training-worker"):
        settings = settings_of(gpu_processes[name], monkeypatch)
        assert settings.inference.engine == "vllm", name
        assert settings.inference.device == "cuda"
    # Single calls are answered in that process, which reaches no model server and has no GPU.
    alone = settings_of(gpu_processes["inference-api"], monkeypatch)
    assert (alone.inference.engine, alone.inference.device) == ("transformers", "cpu")


def test_without_a_gpu_the_engine_is_transformers() -> None:
    for process in kubernetes_processes(rendered("local")):
        assert process.environment.get("CRAFT_INFERENCE__ENGINE", "transformers") == "transformers"
    defaults = {process.environment.get("CRAFT_INFERENCE__ENGINE") for process in compose_processes()}
    assert defaults == {None, "vllm", "transformers", "${CRAFT_INFERENCE__ENGINE:-transformers}"}


def test_its_callers_know_where_it_listens(gpu_processes: dict[str, Process], monkeypatch: pytest.MonkeyPatch) -> None:
    listen = settings_of(gpu_processes["model-server"], monkeypatch).model_server
    assert listen.host == "0.0.0.0"
    for name in ("gateway", "inference-worker", "training-worker"):
        url = urlsplit(settings_of(gpu_processes[name], monkeypatch).resolved_model_server_url)
        assert (url.scheme, url.hostname, url.port) == ("http", "model-server", listen.port)


def test_it_sees_models_and_adapters_and_can_change_neither(
    gpu_processes: dict[str, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = gpu_processes["model-server"].mounts
    log_folder = settings_of(gpu_processes["model-server"], monkeypatch).state_dir
    assert log_folder.is_relative_to("/var/cache/craft")
    assert not mounts["/var/lib/craft/models"].writable
    assert not mounts["/var/lib/craft/adapters"].writable
    assert mounts["/var/cache/craft"].writable, "vLLM compiles kernels into it"
    assert "/var/lib/craft/state" not in mounts, "jobs are none of its business"


def test_adapters_are_published_by_gateway_and_inference_worker(
    gpu_processes: dict[str, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(settings_of(gpu_processes["model-server"], monkeypatch).resolved_adapters_dir)
    mounted = {name: process.mounts[folder] for name, process in gpu_processes.items() if folder in process.mounts}
    assert {mount.volume for mount in mounted.values()} == {"adapters"}
    assert {name: mount.writable for name, mount in mounted.items()} == {
        "gateway": True,
        "inference-worker": True,
        "model-server": False,
    }


@pytest.mark.parametrize("way", ["compose", "one-gpu"])
def test_who_shares_one_gpu_locks_one_file_first(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = deployed(way)
    taking = {name: process for name, process in processes.items() if DEVICE in process.mounts}
    assert set(taking) == TAKING_TURNS
    (lock,) = {settings_of(process, monkeypatch).worker.device_lock for process in taking.values()}
    assert lock is not None
    assert str(lock.parent) == DEVICE
    for process in taking.values():
        assert process.mounts[DEVICE].volume == "device"
        assert process.mounts[DEVICE].writable


@pytest.mark.parametrize("way", ["compose", "one-gpu"])
def test_training_can_tell_that_vllm_has_the_same_memory(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From these three it concludes that vLLM has to stop first, and that it must keep no model itself."""
    settings = settings_of(deployed(way)["training-worker"], monkeypatch)
    assert settings.inference.engine == "vllm"
    assert settings.inference.vllm.url is None
    assert settings.worker.device_lock is not None


def test_with_a_gpu_each_nobody_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for process in deployed("gpu").values():
        assert settings_of(process, monkeypatch).worker.device_lock is None
        assert DEVICE not in process.mounts


def test_on_one_machine_the_processor_is_shared_in_turns_too() -> None:
    processes = {process.name: process for process in compose_processes()}
    locks = {
        processes[name].environment["CRAFT_WORKER__DEVICE_LOCK"] for name in (*TAKING_TURNS, "training-worker-gpu")
    }
    assert len(locks) == 1


def test_it_has_time_to_end_a_reply_and_stop_vllm() -> None:
    periods = [compose()["services"]["model-server"]["stop_grace_period"].removesuffix("s")]
    for overlay in GPU_OVERLAYS:
        specs = {d["metadata"]["name"]: d["spec"] for d in of_kind(rendered(overlay), "Deployment")}
        periods.append(specs["model-server"]["template"]["spec"]["terminationGracePeriodSeconds"])
    assert [float(period) for period in periods] == [90.0] * 3


def test_it_needs_nothing_of_the_extra_that_the_worker_has() -> None:
    """Its image installs the project without extras, beside vLLM's own packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    absent = [name for names in project["optional-dependencies"].values() for name in names]
    modules = sorted({re.split(r"[\[>=<]", name)[0].replace("-", "_") for name in absent})
    assert {"torch", "transformers"} <= set(modules)
    code = f"import sys; sys.modules.update(dict.fromkeys({modules})); import craft_inference.model_server"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
