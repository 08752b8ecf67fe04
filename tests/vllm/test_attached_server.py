"""A real vLLM that somebody else started: with other options its numbers are ours, or it is refused with the option."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.ports import free_ports
from tests.vllm.conftest import SMOLLM, VLLM_PYTHON, Rig, running, until

from craft.core.prompts import ModelMessage
from craft.errors import ContextTooLong, ServerUnsuitable
from craft_inference.engine import LetterPrompt, Prompt, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

_START_SECONDS = 400.0
_SAMPLING = Sampling(max_new_tokens=12, samples=4, temperature=1.0, top_p=0.95, seed=3)
_PROMPTS = [Prompt(f"p{n}", (ModelMessage("user", f"Name a thing of colour number {n}."),)) for n in range(8)]
_LETTERS = [LetterPrompt("l", (ModelMessage("user", "Choose A, B or C."),), ("A", "B", "C"))]


_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "lora_filesystem_resolver",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
}


@contextmanager
def theirs(folder: Path, models: Path, *words: str) -> Iterator[str]:
    """The address of a vLLM that is started by hand, with these words besides the ones that are always needed."""
    (port,) = free_ports(1)
    arguments = ["--model", SMOLLM, "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port), *words]
    arguments += ["--enforce-eager", "--no-enable-chunked-prefill", "--block-size", "32", "--max-model-len", "2048"]
    (folder / "attached" / "adapters").mkdir(parents=True)
    with (folder / "theirs.log").open("wb") as log:
        process = subprocess.Popen(
            [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", *arguments],
            cwd=models,
            env={**os.environ, **_ENVIRONMENT, "VLLM_LORA_RESOLVER_CACHE_DIR": str(folder / "attached" / "adapters")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _healthy(f"http://127.0.0.1:{port}") or process.poll() is not None, _START_SECONDS)
        assert process.poll() is None, (folder / "theirs.log").read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2.0).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def opinionated(tmp_path: Path, models: Path) -> Path:
    """A models folder whose model wants to be sampled greedily and with a penalty."""
    folder = tmp_path / "models" / SMOLLM
    shutil.copytree(models / SMOLLM, folder, copy_function=os.link)
    path = folder / "generation_config.json"
    wanted = json.loads(path.read_text()) | {"do_sample": True, "top_k": 1, "repetition_penalty": 1.3}
    path.unlink()  # it is a link to the other folder's file
    path.write_text(json.dumps(wanted))
    return tmp_path / "models"


def test_the_models_own_generation_settings_do_not_change_samples_on_their_server(
    rig: Rig, tmp_path: Path, opinionated: Path
) -> None:
    """vLLM applies generation_config.json to every field that a request leaves out."""
    expected = rig.engine(dtype="float32").generate(_PROMPTS, _SAMPLING).rows
    assert len({text for row in expected for text in row.texts}) > len(expected)
    with (
        theirs(tmp_path, opinionated, "--enable-lora", "--max-lora-rank", "16", "--max-loras", "1") as url,
        running(tmp_path / "attached", opinionated, VLLM__URL=url) as attached,
    ):
        engine = attached.engine(dtype="float32", asks_context=True, stage=True)
        assert engine.generate(_PROMPTS, _SAMPLING).rows == expected
        long = Prompt("long", (ModelMessage("user", "word " * 2500),))
        found = engine.measure([_PROMPTS[0], long], new_tokens=8)
        assert [(each.position, each.limit) for each in found.too_long] == [(1, 2048)]
        with pytest.raises(ContextTooLong):
            engine.generate([long], _SAMPLING)


def test_log_probabilities_after_processing_are_refused(tmp_path: Path, models: Path) -> None:
    with (
        theirs(tmp_path, models, "--logprobs-mode", "processed_logprobs") as url,
        running(tmp_path / "attached", models, VLLM__URL=url) as attached,
        pytest.raises(ServerUnsuitable, match="after its processing") as refused,
    ):
        attached.engine(dtype="float32").letters(_LETTERS)
    assert "--logprobs-mode raw_logprobs" in str(refused.value.hint)


def test_a_server_that_takes_no_adapters_is_refused_before_the_first_stage(tmp_path: Path, models: Path) -> None:
    with (
        theirs(tmp_path, models) as url,
        running(tmp_path / "attached", models, VLLM__URL=url) as attached,
    ):
        assert len(attached.engine(dtype="float32").letters(_LETTERS).rows) == 1, "a call needs none"
        with pytest.raises(ServerUnsuitable, match="does not load adapters") as refused:
            attached.engine(dtype="float32", stage=True).letters(_LETTERS)
        assert "--enable-lora" in str(refused.value.hint)
        assert attached.adapters.names() == []
