"""Our own server process and the team's server: readiness, version, counters, and the reason for an end."""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.services.inference.rigs.supervisor_rig import in_a_loop, until

from craft.contracts.services.model_server import ServedTokens
from craft.errors import CraftError, DeviceFailed, GpuOutOfMemory, HostOutOfMemory, ModelRejected, Unavailable
from craft_inference.model_server.command import ServerCommand
from craft_inference.model_server.failures import failure_in
from craft_inference.model_server.server import AttachedServer, VllmProcess, context_of, tokens_of, version_of

FAKE_VLLM = """
import socketserver, sys
from http.server import BaseHTTPRequestHandler
asleep, stuck = False, sys.argv[2:] == ["stuck"]
class Handler(BaseHTTPRequestHandler):
    def say(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        sleeping = b'{"is_sleeping": %s}' % (b"true" if asleep else b"false")
        self.say({"/health": b"", "/version": b'{"version": "1.2.3"}', "/is_sleeping": sleeping}[self.path])
    def do_POST(self):
        global asleep
        asleep = not stuck and {"/sleep?level=1": True, "/wake_up": False}[self.path]
        self.say(b"{}")
    def address_string(self): return "-"
print("listens", flush=True)
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""


def command(folder: Path, *words: str, **environment: str) -> ServerCommand:
    return ServerCommand(arguments=words, environment={**os.environ, **environment}, folder=folder)


async def ended(folder: Path, script: str) -> CraftError:
    """The error of a server that runs this script until it ends."""
    process = VllmProcess(command(folder, "sh", "-c", script), folder / "s", folder / "logs" / "vllm.log")
    await until(lambda: not process.alive)
    assert not await process.ready()
    await process.stop()
    return process.why_it_ended()


@in_a_loop
async def test_a_process_gets_ready_answers_and_is_gone_when_stop_returns() -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes
        folder = Path(short)
        socket = folder / "s"
        socket.write_text("left by one that was killed")
        fake = command(folder, sys.executable, "-c", FAKE_VLLM, str(socket))
        process = VllmProcess(fake, socket, folder / "logs" / "vllm.log")
        assert process.alive
        while not await process.ready():
            assert process.alive
        assert await version_of(process.client) == "1.2.3"
        await process.stop()
        assert not process.alive
        assert (folder / "logs" / "vllm.log").read_text().startswith("listens")


def sleeper(folder: Path, *words: str) -> VllmProcess:
    """A process that answers vLLM's calls for sleep; the word "stuck" makes it say yes and stay awake."""
    fake = command(folder, sys.executable, "-c", FAKE_VLLM, str(folder / "s"), *words)
    return VllmProcess(replace(fake, can_sleep=True), folder / "s", folder / "vllm.log")


@in_a_loop
async def test_a_process_sleeps_and_wakes_by_vllms_own_calls() -> None:
    with tempfile.TemporaryDirectory() as short:
        process = sleeper(Path(short))
        while not await process.ready():
            assert process.alive
        await process.sleep()
        assert (await process.client.get("/is_sleeping")).json() == {"is_sleeping": True}
        await process.wake()
        assert (await process.client.get("/is_sleeping")).json() == {"is_sleeping": False}
        await process.stop()


@in_a_loop
async def test_a_process_that_says_yes_and_stays_awake_is_not_asleep() -> None:
    """An answer of 200 alone would let training start beside a server that has the whole device."""
    with tempfile.TemporaryDirectory() as short:
        process = sleeper(Path(short), "stuck")
        while not await process.ready():
            assert process.alive
        with pytest.raises(Unavailable, match="is awake"):
            await process.sleep()
        await process.stop()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", GpuOutOfMemory),
        ("ValueError: No available memory for the cache blocks. Try increasing it.", GpuOutOfMemory),
        (
            "ValueError: Free memory on device (3.1/79.1 GiB) on startup is less than desired GPU memory utilization",
            GpuOutOfMemory,
        ),
        (
            "ValueError: To serve at least one request with the models's max seq len (32768), (7.00 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (3.1 GiB).",
            GpuOutOfMemory,
        ),
        ("MemoryError", HostOutOfMemory),
        ("OSError: [Errno 12] Cannot allocate memory", HostOutOfMemory),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate", HostOutOfMemory),
        ("ValueError: Model architectures ['FooForCausalLM'] are not supported for now.", ModelRejected),
        ("1 validation error for ModelConfig", ModelRejected),
        ("safetensors_rust.SafetensorError: Error while deserializing header", ModelRejected),
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", DeviceFailed),
        ("(EngineCore) RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO)", DeviceFailed),
        ("RuntimeError: Found no NVIDIA driver on your system.", DeviceFailed),
        ("WARNING 11-30 Failed to import vllm._C: libcudart.so.13: cannot open shared object file", Unavailable),
        ("something else altogether", Unavailable),
    ],
)
def test_the_end_of_the_log_says_what_went_wrong(tmp_path: Path, words: str, expected: type[CraftError]) -> None:
    @in_a_loop
    async def scenario() -> None:
        quoted = words.replace("'", "'\\''")
        error = await ended(tmp_path, f"echo first; echo '{quoted}' >&2; exit 1")
        assert type(error) is expected
        assert "exit code 1" in error.message
        assert words in error.message
        assert error.hint

    scenario()


NO_ROOM = (
    "ValueError: To serve at least one request with the model's max seq len (131072), (17.18 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (3.91 GiB). {fits}Try increasing `gpu_memory_utilization`."
)


@pytest.mark.parametrize(
    ("on_cpu", "fits", "expected", "setting"),
    [
        (False, 29824, GpuOutOfMemory, "GPU_MEMORY_UTILIZATION"),
        (True, 29824, HostOutOfMemory, "CPU_KVCACHE_GIB"),
        (False, None, GpuOutOfMemory, "GPU_MEMORY_UTILIZATION"),
    ],
)
def test_a_context_for_which_there_is_no_memory_is_told_with_its_numbers(
    tmp_path: Path, on_cpu: bool, fits: int | None, expected: type[CraftError], setting: str
) -> None:
    log = tmp_path / "vllm.log"
    told = f"Based on the available memory, the estimated maximum model length is {fits}. " if fits else ""
    log.write_text(f"(EngineCore pid=7) ERROR 11-30 {NO_ROOM.format(fits=told)}\nlater lines\n")
    error = failure_in(log, exit_code=1, on_cpu=on_cpu)
    assert type(error) is expected
    assert "131,072 tokens needs 17.18 GiB" in error.message
    assert "3.91 GiB" in error.message
    assert ("29,824 tokens would fit" in error.message) is (fits is not None)
    assert f"MAX_MODEL_LEN to {fits or 'less'} or to auto" in str(error.hint)
    assert setting in str(error.hint)


@in_a_loop
async def test_a_process_that_was_killed_ran_out_of_the_hosts_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert isinstance(await ended(tmp_path_factory.mktemp("killed"), "kill -9 $$"), HostOutOfMemory)


@in_a_loop
async def test_only_the_last_lines_are_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    script = "yes line | head -n 100000; printf 'caf\\351\\n'; echo the end; exit 1"
    error = await ended(tmp_path_factory.mktemp("long"), script)
    lines = error.message.splitlines()
    assert (lines[-1], lines[-2], lines[2], len(lines)) == ("the end", "caf�", "line", 17)


@in_a_loop
async def test_a_program_that_is_missing_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("missing")
    process = VllmProcess(command(folder, "/no/such/python"), folder / "s", folder / "vllm.log")
    await until(lambda: not process.alive)
    error = process.why_it_ended()
    await process.stop()
    assert isinstance(error, Unavailable)
    assert "No such file or directory" in error.message
    assert error.hint is not None
    assert "vllm.log" in error.hint


def test_a_folder_that_is_missing_is_an_os_error_and_leaks_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        VllmProcess(command(tmp_path / "gone", "true"), tmp_path / "s", tmp_path / "vllm.log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def attached(answers: dict[str, httpx.Response]) -> AttachedServer:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != "Bearer key":
            return httpx.Response(401)
        if request.url.path not in answers:
            raise httpx.ConnectError("refused")
        return answers[request.url.path]

    return AttachedServer("http://theirs", api_key="key", served_path="team/a", transport=httpx.MockTransport(answer))


def models(*names: str) -> httpx.Response:
    return httpx.Response(200, json={"data": [{"id": name} for name in names]})


@in_a_loop
async def test_the_teams_own_server_is_ready_where_it_serves_the_model() -> None:
    server = attached({"/health": httpx.Response(200), "/v1/models": models("team/a", "adapter")})
    assert (await server.ready(), server.alive) == (True, True)
    await server.stop()


@in_a_loop
async def test_the_teams_own_server_is_waited_for() -> None:
    assert not await attached({}).ready()
    assert not await attached({"/health": httpx.Response(503)}).ready()
    assert isinstance(attached({}).why_it_ended(), Unavailable)


@in_a_loop
async def test_another_model_on_the_teams_own_server_is_refused_at_once() -> None:
    server = attached({"/health": httpx.Response(200), "/v1/models": models("theirs/b", "theirs/c")})
    with pytest.raises(ModelRejected, match="serves theirs/b, theirs/c, not team/a") as caught:
        await server.ready()
    assert caught.value.param == "base_model"


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[]), httpx.Response(500)]
)
def test_a_url_of_something_else_says_so(answer: httpx.Response) -> None:
    @in_a_loop
    async def scenario() -> None:
        server = attached({"/health": httpx.Response(200), "/v1/models": answer, "/version": answer})
        with pytest.raises(Unavailable):
            await server.ready()
        with pytest.raises(Unavailable):
            await version_of(server.client)

    scenario()


@in_a_loop
async def test_the_context_is_the_base_models() -> None:
    cards = [{"id": "team/a", "max_model_len": 2048}, {"id": "adapter", "max_model_len": None}]
    server = attached({"/v1/models": httpx.Response(200, json={"data": cards})})
    assert await context_of(server.client) == 2048
    for wrong in ([], [{"id": "team/a"}], [{"id": "team/a", "max_model_len": None}]):
        with pytest.raises(Unavailable):
            await context_of(attached({"/v1/models": httpx.Response(200, json={"data": wrong})}).client)


@in_a_loop
async def test_the_counters_of_all_engines_are_added_up() -> None:
    text = """# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
vllm:prompt_tokens_total{engine="0",model_name="team/a"} 1.5e+03
vllm:prompt_tokens_total{engine="1",model_name="team/a"} 500.0
vllm:prompt_tokens_created{engine="0",model_name="team/a"} 1.79e+09
vllm:prompt_tokens_cached_total{engine="0",model_name="team/a"} 300.0
vllm:generation_tokens_total{engine="0",model_name="team/a"} 9.0
"""
    server = attached({"/metrics": httpx.Response(200, text=text)})
    assert await tokens_of(server.client) == ServedTokens(prompt=2000, cached=300)


@in_a_loop
async def test_a_server_without_counters_is_unavailable() -> None:
    for answers in ({}, {"/metrics": httpx.Response(404)}):
        with pytest.raises(Unavailable):
            await tokens_of(attached(answers).client)
