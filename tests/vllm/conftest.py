"""A real vLLM on this machine's CPU, behind the real model server."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr
from tests.fetched_models import MODELS
from tests.ports import free_ports

from craft.contracts.services.model_server import ServedBase, ServerView
from craft.infra.models.folders import ModelFolders
from craft.infra.storage.served_adapters import ServedAdapters
from craft_inference.adapter_shapes import check_fits, write_neutral_adapter
from craft_inference.prompting.chat import chat_of
from craft_inference.vllm.client import ServerAccess, lease_model
from craft_inference.vllm.engine import ServerUse, VllmEngine

SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
TWIN = "twin"
"""The same files under another name, which make another base model."""
TOKEN = SecretStr("token-of-the-tests")
VLLM_PYTHON = Path(os.environ.get("CRAFT_INFERENCE__VLLM__PYTHON", ".craft/vllm/bin/python")).absolute()
WITH_VLLM = {
    "CRAFT_INFERENCE__ENGINE": "vllm",
    "CRAFT_INFERENCE__VLLM__PYTHON": str(VLLM_PYTHON),
    "CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN": "2048",
    "CRAFT_INFERENCE__VLLM__ENFORCE_EAGER": "true",
    # vLLM's CPU code computes every adapter with this rank, and slowly (shared/docs/measurements.md).
    "CRAFT_INFERENCE__VLLM__MAX_LORA_RANK": "16",
    "CRAFT_INFERENCE__VLLM__MAX_LORAS": "1",
}
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Rig:
    """A running model server, with its address and folders."""

    url: str
    state: Path
    models: Path
    process: "subprocess.Popen[bytes]"

    @property
    def http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN.get_secret_value()}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=180.0)

    @property
    def adapters(self) -> ServedAdapters:
        return ServedAdapters(self.state / "adapters")

    def base(self, name: str = SMOLLM, dtype: str = "bfloat16") -> ServedBase:
        return ServedBase(model=ModelFolders(self.models).find(name).ref, dtype=dtype)

    def engine(
        self,
        name: str = SMOLLM,
        dtype: str = "bfloat16",
        *,
        asks_context: bool = False,
        own_context: bool = False,
        stage: bool = False,
    ) -> VllmEngine:
        access = ServerAccess(url=self.url, token=TOKEN, has_device=True, wait_seconds=180.0)
        use = ServerUse(
            self.base(name, dtype), sequences_in_flight=256, seeds=True, asks_context=asks_context, adapters=stage
        )
        chat = chat_of(self.models / name, max_tokens=None if asks_context or own_context else 2048)
        check = partial(check_fits, model=self.models / name)
        neutral = partial(write_neutral_adapter, model=self.models / name)
        return VllmEngine(
            chat, partial(lease_model, access), self.adapters, use, check_adapter=check, write_neutral=neutral
        )

    def view(self) -> ServerView:
        with self.http as http:
            return ServerView.model_validate_json(http.get("/v1/server").content)

    def vllm_processes(self) -> list[psutil.Process]:
        """The server's own processes, which the process reaper started."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with two base models."""
    folder = tmp_path_factory.mktemp("models")
    for name in (SMOLLM, TWIN):
        shutil.copytree(MODELS / SMOLLM, folder / name, copy_function=os.link)
    return folder


@contextmanager
def running(state: Path, models: Path, *, without: Sequence[str] = (), **settings: str) -> Iterator[Rig]:
    """Run a model server with these settings; `VLLM__…` stands for `CRAFT_INFERENCE__VLLM__…`.

    By default vLLM compiles nothing, so that it starts soon. `without` names settings of vLLM that are left out.
    """
    assert VLLM_PYTHON.exists(), f"{VLLM_PYTHON} is missing: run `make vllm`."
    (port,) = free_ports(1)
    environment = os.environ | {
        "CRAFT_STATE_DIR": str(state),
        "CRAFT_MODELS_DIR": str(models),
        "CRAFT_MODEL_SERVER__PORT": str(port),
        "CRAFT_MODEL_SERVER_TOKEN": TOKEN.get_secret_value(),
        **WITH_VLLM,
    }
    environment |= {name.replace("VLLM__", "CRAFT_INFERENCE__VLLM__", 1): value for name, value in settings.items()}
    for name in without:
        del environment[f"CRAFT_INFERENCE__VLLM__{name}"]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "model-server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "craft_inference.model_server"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    rig = Rig(f"http://127.0.0.1:{port}", state, models, process)
    try:
        until(lambda: _answers(rig.url), _START_SECONDS)
        yield rig
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Rig]:
    """One model server for all tests that leave it unchanged."""
    with running(tmp_path_factory.mktemp("rig"), models) as rig:
        yield rig


def until(fact: Callable[[], bool], seconds: float) -> None:
    """Wait until the fact is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "The fact did not become true in time."
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0).is_success
    except httpx.TransportError:
        return False
