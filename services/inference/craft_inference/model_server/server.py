"""One vLLM server: our own process under the process reaper, or a server that the team already runs."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import httpx

from craft.contracts.services.model_server import ServedTokens
from craft.errors import CraftError, DeviceFailed, GpuOutOfMemory, HostOutOfMemory, ModelRejected, Unavailable
from craft.infra.process.device_failures import device_failure_in
from craft.infra.process.error_mapping import device_failed
from craft_inference.model_server.command import ServerCommand

_LAST_LINES = 15
_LAST_BYTES = 64 * 1024
_METRIC = re.compile(r"^(vllm:prompt_tokens(?:_cached)?_total)\{[^}]*\} ([0-9.eE+]+)$", re.MULTILINE)
_NO_GPU_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|No available memory for the cache|less than desired GPU memory|"
    r"KV cache .* is larger than the available|larger than the maximum number of tokens that can be stored in KV cache"
)
_CAUSE = re.compile(r"(?:^|\] |: )(\w*(?:Error|Exception): \S.*)$", re.MULTILINE)
_NO_HOST_MEMORY = re.compile(
    r"Available memory on node .* less than requested|MemoryError|Cannot allocate memory|"
    r"DefaultCPUAllocator: can't allocate"
)
_NO_ERROR = re.compile(r"\b(?:DEBUG|INFO|WARNING) \d")
_REJECTED = re.compile(
    r"not supported|does not support|does not recognize this architecture|Unrecognized model|"
    r"validation error for (?:ModelConfig|LoRAConfig|VllmConfig)|SafetensorError"
)


class Server(Protocol):
    """A started server."""

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client for calls to the server."""
        ...

    @property
    def alive(self) -> bool:
        """True while the server's process runs."""
        ...

    async def ready(self) -> bool:
        """True when the server answers. Raises CraftError if it never will."""
        ...

    async def stop(self) -> None:
        """End the server. Returns when all its memory is free."""
        ...

    def why_it_ended(self) -> CraftError:
        """The error that the end of its log describes."""
        ...


class VllmProcess:
    """Our own vLLM process, behind a Unix socket that no other user may open."""

    def __init__(self, command: ServerCommand, socket: Path, log: Path) -> None:
        """Start the process. Raises OSError if that fails."""
        log.parent.mkdir(parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        self._log = log
        lifeline, self._lifeline = os.pipe()
        try:
            with log.open("wb") as output:
                self._popen = subprocess.Popen(  # noqa: S603 - built from our own settings
                    [
                        sys.executable,
                        "-m",
                        "craft_inference.model_server.process_reaper",
                        str(lifeline),
                        *command.arguments,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=command.folder,
                    env=dict(command.environment),
                    pass_fds=(lifeline,),
                    start_new_session=True,
                )
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket), limits=_NO_LIMITS),
            base_url="http://vllm",
            timeout=_NO_READ_TIMEOUT,
        )

    @property
    def client(self) -> httpx.AsyncClient:
        return self._client

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    async def ready(self) -> bool:
        return await _answers(self._client)

    async def stop(self) -> None:
        os.close(self._lifeline)
        # The reaper exits only when the last process of the server is gone.
        await asyncio.to_thread(self._popen.wait)
        await self._client.aclose()

    def why_it_ended(self) -> CraftError:
        text = self._end_of_log()
        last = "\n".join(text.splitlines()[-_LAST_LINES:])
        # The first error is the cause. Later ones come from the processes that noticed it, one after the other.
        cause = _CAUSE.search(text)
        reason = f": {cause[1]}" if cause else "."
        message = f"vLLM ended with exit code {self._popen.poll()}{reason}\nThe end of its log:\n{last}"
        if _NO_GPU_MEMORY.search(text):
            return GpuOutOfMemory(
                message,
                hint="Lower CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN or CRAFT_INFERENCE__VLLM__GPU_MEMORY_UTILIZATION, or "
                "stop what else uses the device.",
            )
        # vLLM warns of libraries that it looks for and does not need.
        told = "\n".join(line for line in text.splitlines() if not _NO_ERROR.search(line))
        if (words := device_failure_in(told)) is not None:
            return DeviceFailed(message, hint=device_failed(words).hint)
        if _NO_HOST_MEMORY.search(text) or self._popen.poll() == 128 + 9:
            return HostOutOfMemory(message, hint="Lower CRAFT_INFERENCE__VLLM__CPU_KVCACHE_GIB.")
        # Warnings before the first error may contain the same words.
        if _REJECTED.search(text[cause.start() :] if cause else text):
            return ModelRejected(message, hint="See the model's and vLLM's documentation.", param="base_model")
        return Unavailable(message, hint=f"The whole log is {self._log.name}.")

    def _end_of_log(self) -> str:
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _LAST_BYTES))
            return file.read().decode("utf-8", "replace")


class AttachedServer:
    """A vLLM server that the team runs. This class sends it requests and never starts or stops it."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        served_path: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_NO_READ_TIMEOUT, limits=_NO_LIMITS, transport=transport
        )
        self._url = url
        self._served_path = served_path

    @property
    def client(self) -> httpx.AsyncClient:
        return self._client

    @property
    def alive(self) -> bool:
        return True

    async def ready(self) -> bool:
        if not await _answers(self._client):
            return False
        models = await _get(self._client, "/v1/models")
        try:
            names = [str(model["id"]) for model in models.json()["data"]]
        except _UNEXPECTED_BODY as error:
            raise _no_vllm(models) from error
        if self._served_path not in names:
            raise ModelRejected(
                f"The server at {self._url} serves {', '.join(names)}, not {self._served_path}.",
                hint="Start it with `--model` of that very text, or choose one of its models.",
                param="base_model",
            )
        return True

    async def stop(self) -> None:
        await self._client.aclose()

    def why_it_ended(self) -> CraftError:
        return Unavailable(f"The vLLM server at {self._url} does not answer.")


async def version_of(client: httpx.AsyncClient) -> str:
    """The version of the vLLM that answers. Raises Unavailable."""
    answer = await _get(client, "/version")
    try:
        return str(answer.json()["version"])
    except _UNEXPECTED_BODY as error:
        raise _no_vllm(answer) from error


async def tokens_of(client: httpx.AsyncClient) -> ServedTokens:
    """All prompt tokens since the start, and those of them that the prefix cache held. Raises Unavailable."""
    text = (await _get(client, "/metrics")).text
    sums: dict[str, float] = {}
    for name, value in _METRIC.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return ServedTokens(
        prompt=round(sums.get("vllm:prompt_tokens_total", 0.0)),
        cached=round(sums.get("vllm:prompt_tokens_cached_total", 0.0)),
    )


async def _get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    try:
        return (await client.get(path, timeout=_SHORT_CALL_SECONDS)).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"vLLM did not answer {path}: {error or type(error).__name__}.") from error


def _no_vllm(answer: httpx.Response) -> Unavailable:
    return Unavailable(
        f"{answer.url} answers, but not as vLLM does.", hint="Compare CRAFT_INFERENCE__VLLM__URL with your server's."
    )


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health", timeout=_SHORT_CALL_SECONDS)).is_success
    except httpx.TransportError:
        return False


_UNEXPECTED_BODY = (ValueError, KeyError, TypeError)
_SHORT_CALL_SECONDS = 5.0
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=256)
# A long reply has no time limit: a caller that no longer wants it disconnects.
_NO_READ_TIMEOUT = httpx.Timeout(None, connect=10.0)
