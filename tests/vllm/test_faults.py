"""Faults of a real vLLM server, and its state afterwards."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.fetched_models import MODELS
from tests.vllm.adapters import random_adapter
from tests.vllm.conftest import SMOLLM, TWIN, Rig, running, until

from craft.contracts.services.model_server import BASE_MODEL_HEADER, ModelLeaseRequest, ServerState
from craft.core.prompts import ModelMessage
from craft.errors import ContextTooLong, DeviceBusy, HostOutOfMemory, ModelNotFound, ModelRejected, Unavailable
from craft.infra.worker.device import device_lock
from craft_inference.engine import Prompt, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

FEW = Sampling(max_new_tokens=8)


def _prompts(count: int, text: str = "Say a word.") -> list[Prompt]:
    return [Prompt(f"p{n}", (ModelMessage("user", f"{text} Number {n}."),)) for n in range(count)]


def _engine_core(rig: Rig) -> psutil.Process:
    """vLLM's process that computes, by its name."""
    (core,) = [process for process in rig.vllm_processes() if "EngineCore" in process.name()]
    return core


@pytest.mark.parametrize("victim", ["server", "engine core"])
def test_a_server_killed_during_requests_costs_no_answer(rig: Rig, victim: str) -> None:
    engine = rig.engine()
    prompts = _prompts(40)
    expected = engine.generate(prompts[:8], FEW).rows
    starts = rig.view().starts

    def kill() -> None:
        until(lambda: rig.view().in_flight > 10, 60)
        core = _engine_core(rig)
        server = core.parent()
        assert server is not None
        (core if victim == "engine core" else server).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    sampling = Sampling(max_new_tokens=24, samples=8, temperature=0.8)
    rows = engine.generate(prompts, sampling).rows
    killer.join()
    assert [row.id for row in rows] == [prompt.id for prompt in prompts]
    assert all(len(row.texts) == 8 for row in rows)
    assert rig.view().starts == starts + 1
    assert engine.generate(prompts[:8], FEW).rows == expected


def test_more_seeded_prompts_than_one_step_prefills_leave_the_server_alive(rig: Rig) -> None:
    """vLLM's CPU code dies from a seeded prompt that is prefilled in parts. A step takes 2,048 tokens here."""
    engine = rig.engine()
    starts = rig.view().starts
    prompts = _prompts(12, "word " * 600)
    sampling = Sampling(max_new_tokens=4, samples=2, temperature=1.0, seed=5)
    assert engine.generate(prompts, sampling).rows == engine.generate(prompts, sampling).rows
    assert rig.view().starts in {starts, 1}


def test_what_cannot_be_served_says_why(rig: Rig, tmp_path: Path) -> None:
    engine = rig.engine()
    with pytest.raises(ContextTooLong, match="p0"):
        engine.generate(_prompts(1, "word " * 3000), FEW)
    foreign = random_adapter(MODELS / SMOLLM, tmp_path / "foreign", narrower=2)
    with pytest.raises(ModelRejected, match="does not belong"):
        engine.generate(_prompts(2), FEW, adapter=foreign)
    large = random_adapter(MODELS / SMOLLM, tmp_path / "large", rank=128)
    with pytest.raises(ModelRejected, match="does not serve") as refused:
        engine.generate(_prompts(2), FEW, adapter=large)
    assert "MAX_LORA_RANK" in str(refused.value.hint)
    # The server survived all of these.
    assert len(engine.generate(_prompts(2), FEW).rows) == 2


def test_a_model_that_is_not_there(rig: Rig) -> None:
    gone = rig.base().model.model_copy(update={"id": "nobody/nothing"})
    request = ModelLeaseRequest(base=rig.base().model_copy(update={"model": gone}), has_device=True)
    with rig.http as http:
        answer = http.post("/v1/leases", json=request.model_dump(mode="json"))
    assert (answer.status_code, answer.json()["code"]) == (422, ModelNotFound.code)


def test_two_base_models_use_one_server_in_turn(rig: Rig) -> None:
    first, second = rig.engine(), rig.engine(TWIN)
    first.generate(_prompts(2), FEW)
    done: list[int] = []

    def work() -> None:
        sampling = Sampling(max_new_tokens=16, samples=4, temperature=1.0)
        done.append(len(first.generate(_prompts(40), sampling).rows))

    working = threading.Thread(target=work)
    working.start()
    until(lambda: rig.view().in_flight > 10, 60)
    # The second model waits for the first one and then replaces it.
    rows = second.generate(_prompts(3), FEW).rows
    working.join()
    assert (done, len(rows)) == ([40], 3)
    base = rig.view().base
    assert base is not None
    assert base.model.id == TWIN
    assert len([process for process in rig.vllm_processes() if "EngineCore" in process.name()]) == 1


def test_nothing_but_completions_is_passed_on(rig: Rig) -> None:
    closed: tuple[str, ...] = (
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/invocations",
        "/tokenize",
        "/detokenize",
        "/pause",
    )
    closed += ("/update_weights", "/sleep", "/collective_rpc", "/v1/embeddings", "/generative_scoring", "/v1/responses")
    with rig.http as http, httpx.Client(base_url=rig.url) as anonymous:
        assert {http.post(path, json={}).status_code for path in closed} == {404}
        opened = ("/v1/leases", "/v1/release", "/v1/completions", "/v1/chat/completions")
        assert {anonymous.post(path, json={}).status_code for path in opened} == {401}
        assert {anonymous.get(path).status_code for path in ("/v1/server", "/v1/tokens")} == {401}
    (server,) = {core.parent() for core in [_engine_core(rig)]}
    assert server is not None
    assert not [c for c in server.net_connections() if c.status == psutil.CONN_LISTEN and c.laddr.port != 0], (
        "vLLM listens on its private socket only"
    )


@pytest.fixture
def own(tmp_path: Path, models: Path) -> Iterator[Rig]:
    """A model server for this test alone, with a device lock. It stops vLLM after a second without requests."""
    lock = tmp_path / "device.lock"
    with running(tmp_path / "own", models, VLLM__IDLE_SECONDS="1", CRAFT_WORKER__DEVICE_LOCK=str(lock)) as own:
        yield own


def test_training_gets_the_device_and_users_get_device_busy(own: Rig, tmp_path: Path) -> None:
    own.engine().generate(_prompts(2), FEW)
    core = _engine_core(own)
    chat = {"model": SMOLLM, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    headers = {BASE_MODEL_HEADER: own.base().model_dump_json()}
    with own.http as http, device_lock(tmp_path / "device.lock")(threading.Event()):
        # This test has the device lock, as a training worker would.
        assert http.post("/v1/release").json()["state"] == ServerState.STOPPED
        assert not core.is_running()
        assert own.vllm_processes() == []
        refused = http.post("/v1/chat/completions", json=chat, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (503, DeviceBusy.code)
        assert int(refused.headers["Retry-After"]) > 0
    with own.http as http:
        answered = http.post("/v1/chat/completions", json=chat, headers=headers)
        assert answered.json()["choices"][0]["message"]["content"]
        until(lambda: own.view().state is ServerState.STOPPED, 30)
        until(lambda: own.vllm_processes() == [], 30)


def test_vllm_does_not_outlive_a_killed_model_server(own: Rig) -> None:
    own.engine().generate(_prompts(2), FEW)
    processes = own.vllm_processes()
    assert len(processes) >= 3
    own.process.send_signal(signal.SIGKILL)
    own.process.wait()
    gone, alive = psutil.wait_procs(processes, timeout=30)
    assert (len(gone), alive) == (len(processes), [])


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"VLLM__START_SECONDS": "0.5"}, Unavailable, "not ready within 0.5 seconds"),
        ({"VLLM__CPU_KVCACHE_GIB": "100000"}, HostOutOfMemory, "ended with exit code"),
        ({"VLLM__EXTRA_ARGUMENTS": '["--no-such-option"]'}, Unavailable, "no-such-option"),
    ],
)
def test_a_server_that_does_not_come_up(
    tmp_path: Path, models: Path, settings: dict[str, str], error: type[Exception], words: str
) -> None:
    with running(tmp_path / "bad", models, **settings) as bad:
        with bad.http as http:
            request = ModelLeaseRequest(base=bad.base(), has_device=True)
            answer = http.post("/v1/leases", json=request.model_dump(mode="json"))
        assert answer.json()["code"] == error.code  # type: ignore[attr-defined] # all are of our tree
        assert words in answer.json()["detail"]
        assert bad.view().state is ServerState.STOPPED
        assert bad.vllm_processes() == []
