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
from craft.errors import CraftError, ModelRejected, Unavailable
from craft_inference.model_server.command import ServerCommand
from craft_inference.model_server.failures import failure_in

_METRIC = re.compile(r"^(vllm:prompt_tokens(?:_cached)?_total)\{[^}]*\} ([0-9.eE+]+)$", re.MULTILINE)


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

    @property
    def attached(self) -> bool:
        """True if the server is the team's own, whose options are not ours."""
        ...

    async def ready(self) -> bool:
        """True when the server answers. Raises CraftError if it never will."""
        ...

    @property
    def can_sleep(self) -> bool:
        """True if `sleep` frees the device's memory."""
        ...

    async def sleep(self) -> None:
        """Move the weights to the host's memory and abort what is in progress. Raises Unavailable if that fails."""
        ...

    async def wake(self) -> None:
        """Move the weights back. Raises Unavailable if that fails."""
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
        self._on_cpu, self._can_sleep = command.on_cpu, command.can_sleep
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

    @property
    def attached(self) -> bool:
        return False

    async def ready(self) -> bool:
        return await _answers(self._client)

    @property
    def can_sleep(self) -> bool:
        return self._can_sleep

    async def sleep(self) -> None:
        await self._turn("/sleep?level=1", asleep=True)

    async def wake(self) -> None:
        await self._turn("/wake_up", asleep=False)

    async def _turn(self, path: str, *, asleep: bool) -> None:
        try:
            (await self._client.post(path, timeout=_SLEEP_SECONDS)).raise_for_status()
            found = (await _get(self._client, "/is_sleeping")).json()["is_sleeping"]
        except (httpx.HTTPError, *_UNEXPECTED_BODY) as error:
            raise Unavailable(f"vLLM did not answer {path}: {error or type(error).__name__}.") from error
        if found is not asleep:
            raise Unavailable(f"vLLM answered {path}, but is {'awake' if asleep else 'asleep'}.")

    async def stop(self) -> None:
        os.close(self._lifeline)
        # The reaper exits only when the last process of the server is gone.
        await asyncio.to_thread(self._popen.wait)
        await self._client.aclose()

    def why_it_ended(self) -> CraftError:
        return failure_in(self._log, exit_code=self._popen.poll(), on_cpu=self._on_cpu)


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

    @property
    def attached(self) -> bool:
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

    @property
    def can_sleep(self) -> bool:
        return False

    async def sleep(self) -> None:
        raise Unavailable(f"The vLLM server at {self._url} is not ours to put to sleep.")

    async def wake(self) -> None:
        raise Unavailable(f"The vLLM server at {self._url} is not ours to wake.")

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


async def context_of(client: httpx.AsyncClient) -> int:
    """The context in tokens with which the server serves its base model. Raises Unavailable."""
    answer = await _get(client, "/v1/models")
    try:
        # The base model comes first, and adapters name no context.
        return int(answer.json()["data"][0]["max_model_len"])
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


_UNEXPECTED_BODY = (ValueError, KeyError, TypeError, IndexError)
_SHORT_CALL_SECONDS = 5.0
_SLEEP_SECONDS = 60.0
"""Sixteen gigabytes take a few seconds either way; a worker that wants the device waits two minutes."""
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=256)
# A long reply has no time limit: a caller that no longer wants it disconnects.
_NO_READ_TIMEOUT = httpx.Timeout(None, connect=10.0)
