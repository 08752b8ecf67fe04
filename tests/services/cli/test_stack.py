"""The local stack: its processes, its lock, its ports, and its errors where it cannot start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from craft.contracts.stages.kinds import Service
from craft.errors import Conflict
from craft.infra.settings.gateway import GatewaySettings
from craft.infra.settings.inference import InferenceSettings, ModelServerSettings
from craft.infra.settings.settings import Settings
from craft.infra.settings.training import TrainingServiceSettings
from craft_cli import demo
from craft_cli.processes import ProcessSpec, SupervisedProcess
from craft_cli.stack import (
    check_ports,
    check_training_device,
    environment,
    listeners,
    lock_state_folder,
    processes,
    stack_process_id,
    unused_gpu,
)

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def supervised(folder: Path, command: list[str]) -> SupervisedProcess:
    return SupervisedProcess(ProcessSpec("it", command), environment=os.environ, logs=folder)


def test_a_dead_process_is_restarted(tmp_path: Path) -> None:
    process = supervised(tmp_path, [sys.executable, "-c", "print('once')"])
    process.start()
    until(process.restart_if_dead)
    until(lambda: process.restart_if_dead() or process.last_lines().count("once") == 2)
    process.stop(grace_seconds=5)


class Seconds:
    """A count of seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pause_after_death(process: SupervisedProcess, seconds: Seconds, *, lived: float) -> float:
    """The pause before the restart of a process that dies after so many seconds."""
    seconds.now += lived
    until(process.restart_if_dead)
    died = seconds.now
    starts = process.last_lines(100).count("once")
    while process.last_lines(100).count("once") == starts:
        process.restart_if_dead()
        if not process.waits:
            until(lambda: process.last_lines(100).count("once") > starts)
            break
        seconds.now += 0.5
    return seconds.now - died


def test_pauses_before_restarts_grow_while_a_process_dies_soon_and_shrink_after_a_minute_of_health(
    tmp_path: Path,
) -> None:
    seconds = Seconds()
    spec = ProcessSpec("it", [sys.executable, "-c", "print('once')"])
    process = SupervisedProcess(spec, environment=os.environ, logs=tmp_path, monotonic=seconds)
    process.start()
    until(lambda: "once" in process.last_lines())
    assert [pause_after_death(process, seconds, lived=1.0) for _ in range(5)] == [0.0, 1.0, 5.0, 15.0, 15.0]
    assert [pause_after_death(process, seconds, lived=60.0) for _ in range(2)] == [0.0, 0.0]
    assert pause_after_death(process, seconds, lived=1.0) == 1.0
    process.stop(grace_seconds=5)


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    process = supervised(tmp_path, STUBBORN)
    process.start()
    until(lambda: "up" in process.last_lines())
    began = time.monotonic()
    process.stop(grace_seconds=0.2)
    assert time.monotonic() - began < 5
    assert process.restart_if_dead() is True


def test_processes_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from craft_cli.processes import ProcessSpec, SupervisedProcess
it = SupervisedProcess(ProcessSpec("child", {SLEEPER!r}), environment=os.environ, logs=Path({str(tmp_path)!r}))
it.start()
print(it._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_only_one_stack_at_a_time_locks_a_state_folder(tmp_path: Path) -> None:
    assert stack_process_id(tmp_path) is None
    with lock_state_folder(tmp_path):
        assert stack_process_id(tmp_path) == os.getpid()
        with pytest.raises(Conflict, match="already runs"), lock_state_folder(tmp_path):
            pass
    assert stack_process_id(tmp_path) is None


def test_a_taken_port_is_named_with_its_service_and_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port}") as caught:
            check_ports(Settings(state_dir=tmp_path, gateway=GatewaySettings(port=port)))
    assert caught.value.hint is not None
    assert "CRAFT_GATEWAY__PORT" in caught.value.hint


def test_every_service_has_an_api_and_a_worker(tmp_path: Path) -> None:
    names = [spec.name for spec in processes(Settings(state_dir=tmp_path))]
    assert names[:3] == ["valkey", "coordinator", "gateway"]
    assert set(names[3:]) == {f"{service}-{part}" for service in Service for part in ("api", "worker")}


def test_the_model_server_runs_and_listens_only_where_the_engine_is_vllm(tmp_path: Path) -> None:
    usual = Settings(state_dir=tmp_path)
    assert set(listeners(usual)) == {"gateway", "coordinator", "datasets", "inference", "scoring", "training"}
    assert "model-server" not in [spec.name for spec in processes(usual)]

    vllm = Settings(state_dir=tmp_path, inference=InferenceSettings(engine="vllm"))
    assert set(listeners(vllm)) == {*listeners(usual), "model_server"}
    assert [spec.name for spec in processes(vllm)][-1] == "model-server"
    assert listeners(vllm)["model_server"].url == vllm.resolved_model_server_url


def test_every_listener_has_a_port_of_its_own(tmp_path: Path) -> None:
    addresses = listeners(Settings(state_dir=tmp_path, inference=InferenceSettings(engine="vllm")))
    assert len({listen.port for listen in addresses.values()}) == len(addresses)


def test_a_taken_port_of_the_model_server_is_named_by_its_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(
            state_dir=tmp_path,
            inference=InferenceSettings(engine="vllm", port=0),
            model_server=ModelServerSettings(port=port),
            **free_ports("gateway", "coordinator", "datasets", "scoring", "training"),
        )
        with pytest.raises(Conflict, match=f"Port {port}") as caught:
            check_ports(settings)
    assert caught.value.hint is not None
    assert "CRAFT_MODEL_SERVER__PORT" in caught.value.hint


def free_ports(*names: str) -> dict[str, Any]:
    """Settings with port 0, which is always free: other stacks may run on this machine."""
    return {name: {"port": 0} for name in names}


def test_an_own_broker_replaces_the_bundled_one(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, broker_url="redis://broker:6379/0")
    assert "valkey" not in [spec.name for spec in processes(settings)]


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    url = environment(Settings(state_dir=deep))["CRAFT_BROKER_URL"]
    assert len(url.removeprefix("redis+socket://")) <= 100


def test_up_refuses_to_begin_with_an_empty_database_beside_artifacts(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "artifacts" / "of a job").mkdir(parents=True)
    ended = subprocess.run(
        [sys.executable, "-m", "craft_cli", "up", "--state-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    words = " ".join(ended.stderr.split())
    assert "is missing" in words
    assert "craft up --new-database" in words
    assert not (tmp_path / "craft.db").exists()


def test_up_says_how_a_gpu_is_used_where_the_embedded_engine_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("craft_cli.stack.gpu_present", lambda environment: "CUDA_VISIBLE_DEVICES" not in environment)
    advice = unused_gpu(Settings(), {})
    assert advice is not None
    assert "CRAFT_INFERENCE__ENGINE=vllm" in advice
    assert unused_gpu(Settings(), {"CUDA_VISIBLE_DEVICES": ""}) is None
    assert unused_gpu(Settings(inference=InferenceSettings(engine="vllm")), {}) is None


def test_up_refuses_a_gpu_that_the_installed_torch_cannot_use_and_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("craft_cli.stack.gpu_present", lambda _: True)
    monkeypatch.setattr("craft_cli.stack.version", lambda _: "2.13.0+cpu")
    with pytest.raises(Conflict) as raised:
        check_training_device(Settings(), {})
    assert "CRAFT_TRAINING__DEVICE=cpu" in (raised.value.hint or "")
    check_training_device(Settings(training=TrainingServiceSettings(device="cpu")), {})
    monkeypatch.setattr("craft_cli.stack.version", lambda _: "2.13.0+cu130")
    check_training_device(Settings(), {})


def test_the_demo_trains_on_the_cpu_where_the_installed_torch_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("craft_cli.stack.version", lambda _: "2.13.0+cpu")
    said: list[str] = []
    for present, device in ((False, None), (True, "cpu")):
        monkeypatch.setattr("craft_cli.stack.gpu_present", lambda _, there=present: there)
        assert demo._environment(Settings(), said.append).get("CRAFT_TRAINING__DEVICE") == device
    assert len(said) == 1
