"""A whole job on a vLLM that is killed in the middle; OpenAI's own client then uses the job's adapter."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from tests.e2e.conftest import running
from tests.fetched_models import MODELS
from tests.vllm.conftest import SMOLLM, VLLM_PYTHON, WITH_VLLM, until

from craft.contracts.public.jobs import QueueView
from craft_client import Client, JobHandle

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

_LORA = {"lora_r": 16, "batch_size": 16, "epochs": 3}
_SHOTS = [
    {"question": "How many legs does a spider have?", "answer": "A spider has eight legs."},
    {"question": "What do bees make?", "answer": "Bees make honey."},
]


@dataclass(frozen=True)
class VllmStack:
    """A whole system with the vllm engine."""

    url: str
    client: Client
    state: Path
    process: psutil.Process

    def log(self, name: str) -> str:
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmStack]:
    assert VLLM_PYTHON.exists(), f"{VLLM_PYTHON} is missing: run `make vllm`."
    state = tmp_path_factory.mktemp("stack")
    settings = {**WITH_VLLM, "CRAFT_MODELS_DIR": str(MODELS), "CRAFT_INFERENCE__QUESTIONS_PER_SHARD": "16"}
    with running(state, **settings) as up:
        yield VllmStack(up.url, up.client, state, psutil.Process(up.process.pid))


def _specification() -> dict[str, Any]:
    path = files("craft_cli") / "data" / "open_ended.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[::30]]
    return {
        "name": "on vllm",
        "base_model": {"id": SMOLLM},
        "dataset": {"rows": rows},
        "split": {"held_out_fraction": 0.4},
        "probe": {"samples": 5, "temperature": 0.7, "max_new_tokens": 40, "shots": _SHOTS},
        "rehearsal": {"size": 10, "shortage": "fill", "training": {**_LORA, "epochs": 8, "min_steps": 8}},
        "selection": {"n_van": 10, "n_idk": 10, "van_target": "own", "shortage": "fill"},
        "training": _LORA,
        "evaluation_settings": {"max_new_tokens": 64, "resamples": 200},
    }


def _kill_vllm(stack: VllmStack) -> None:
    for process in stack.process.children(recursive=True):
        if "EngineCore" in process.name():
            process.kill()


@pytest.fixture(scope="module")
def finished(stack: VllmStack) -> JobHandle:
    """The job whose server was killed during its first probe."""
    job = stack.client.jobs.create(_specification())

    def probed() -> int:
        stage = next(stage for stage in job.refresh().stages if stage.name == "probe:initial")
        return stage.progress.done if stage.progress else 0

    until(lambda: probed() >= 16, 240)
    queue = QueueView.model_validate_json(httpx.get(f"{stack.url}/craft/queue").content)
    assert [(device.name, device.stage, device.job_id) for device in queue.devices] == [
        ("device", "probe:initial", job.id)
    ]
    _kill_vllm(stack)
    job.wait()
    return job


def test_a_killed_server_costs_the_job_nothing(stack: VllmStack, finished: JobHandle) -> None:
    view = finished.refresh()
    assert view.status == "succeeded"
    assert "server_died" in stack.log("model-server")
    assert {stage.attempt for stage in view.stages} == {1}, "the stage itself sent its requests again"
    samples = next(stage for stage in view.stages if stage.name == "probe:initial")
    assert samples.progress is not None
    assert samples.progress.done == samples.progress.total


def test_the_packaged_adapter_was_compared_with_what_vllm_serves(finished: JobHandle, stack: VllmStack) -> None:
    artifacts = httpx.get(f"{stack.url}/craft/jobs/{finished.id}/artifacts").json()["data"]
    package = next(artifact for artifact in artifacts if artifact["stage"] == "package:craft")
    assert package["counts"]["compared"] >= 10
    probe = next(artifact for artifact in artifacts if artifact["stage"] == "probe:initial")
    assert 0 < probe["cost"]["prefilled_tokens"] < probe["cost"]["prompt_tokens"] * 4
    assert not list((stack.state / "adapters").glob("stage-*/.*"))


def test_training_had_the_device_to_itself(stack: VllmStack, finished: JobHandle) -> None:
    assert finished.refresh().status == "succeeded"
    log = stack.log("model-server")
    assert log.count("route=/v1/release") >= 2
    assert "state=stopped" in log


def test_the_adapter_answers_openais_client(stack: VllmStack, finished: JobHandle) -> None:
    deployment = finished.deploy()
    messages: Any = [{"role": "user", "content": "Question: What do bees make?\nAnswer:"}]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", timeout=180) as client:
        assert deployment.model in [model.id for model in client.models.list()]
        whole = client.chat.completions.create(
            model=deployment.model, messages=messages, max_tokens=12, temperature=0, seed=1
        )
        streamed = client.chat.completions.create(
            model=deployment.model, messages=messages, max_tokens=12, temperature=0, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
        assert whole.choices[0].message.content == text
        assert text.strip()
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=messages)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model=deployment.model, messages=[{"role": "user", "content": "word " * 4000}]
            )


def test_a_served_adapter_survives_a_killed_server(stack: VllmStack, finished: JobHandle) -> None:
    deployment = finished.deploy()
    messages: Any = [{"role": "user", "content": "Name a colour."}]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", timeout=180, max_retries=5) as client:

        def reply() -> str:
            answer = client.chat.completions.create(
                model=deployment.model, messages=messages, max_tokens=8, temperature=0
            )
            return answer.choices[0].message.content or ""

        before = reply()
        _kill_vllm(stack)
        time.sleep(1.0)
        assert reply() == before


def test_an_adapter_that_vllm_cannot_serve_is_refused_at_once(stack: VllmStack) -> None:
    specification = _specification() | {"training": {**_LORA, "lora_r": 512}}
    problem = httpx.post(f"{stack.url}/craft/jobs", json=specification).json()
    assert problem["code"] == "request_invalid"
    assert "MAX_LORA_RANK" in problem["hint"]
