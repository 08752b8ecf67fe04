"""Builds the model server from the settings, without importing torch: vLLM has an environment of its own."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from craft.contracts.services.model_server import ServedBase, ServerState
from craft.infra.http.app import create_app
from craft.infra.http.service_access import own_checks_access
from craft.infra.models.folders import ModelFolders, served_path
from craft.infra.settings.settings import Settings
from craft.infra.storage.served_adapters import ServedAdapters
from craft.infra.worker.device import acquire_device_if_free
from craft_inference.model_server.adapter_chats import AdapterChats
from craft_inference.model_server.command import Served, ServerPlaces, vllm_command
from craft_inference.model_server.devices import device_router, device_test, on_cpu
from craft_inference.model_server.memory.context import Context, chosen_context, own_context
from craft_inference.model_server.memory.hand_over import memory_for, sleeps
from craft_inference.model_server.routes import router
from craft_inference.model_server.server import AttachedServer, Server, VllmProcess
from craft_inference.model_server.supervisor import AcquireDeviceIfFree, ServerSupervisor, Timeouts


def app(settings: Settings) -> FastAPI:
    """The application. Its lifespan runs the supervisor's watch, and stops vLLM at the end."""
    vllm = settings.inference.vllm
    # Not below the state folder, whose path may be too long: a socket's path has at most 107 bytes. Only this user may
    # open it.
    private = Path(tempfile.mkdtemp(prefix="craft-vllm-"))
    supervisor = ServerSupervisor(
        partial(_start, settings, private / "vllm.sock"),
        as_served=partial(_as_served, settings),
        choose_context=partial(_choose_context, settings),
        stays=vllm.sleep == "stay",
        acquire_device_if_free=_acquire_device_if_free(settings),
        timeouts=Timeouts(
            start_seconds=vllm.start_seconds, idle_seconds=vllm.idle_seconds, sleep_seconds=vllm.sleep_seconds
        ),
    )

    @asynccontextmanager
    async def watched(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(supervisor.watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await supervisor.close()
            shutil.rmtree(private, ignore_errors=True)

    return create_app(
        title="CRaFT model server",
        service="model-server",
        routers=[
            router(
                supervisor,
                token=settings.model_server_token,
                chats=AdapterChats(settings.resolved_adapters_dir),
            ),
            device_router(
                partial(device_test, settings.inference),
                runs=lambda: supervisor.view().state is not ServerState.STOPPED,
                token=settings.model_server_token,
            ),
        ],
        lifespan=watched,
        inner=own_checks_access(settings, settings.model_server),
    )


def _start(settings: Settings, socket: Path, base: ServedBase, context: Context) -> Server:
    vllm = settings.inference.vllm
    if vllm.url is not None:
        key = None if vllm.api_key is None else vllm.api_key.get_secret_value()
        return AttachedServer(vllm.url, api_key=key, served_path=served_path(base.model))
    models = settings.resolved_models_dir
    folder = ModelFolders(models, experimental=settings.experimental_models).locate(base.model)
    adapters = ServedAdapters(settings.resolved_adapters_dir).ensure_root()
    places = ServerPlaces(models=models, adapters=adapters, socket=socket)
    can_sleep = sleeps(
        vllm.sleep,
        memory_for(folder),
        on_cpu=on_cpu(settings.inference.device),
        shares_device=settings.worker.device_lock is not None,
    )
    served = Served(base, context, can_sleep=can_sleep)
    command = vllm_command(settings.inference, places, python=vllm.python or Path(sys.executable), served=served)
    return VllmProcess(command, socket, settings.state_dir.absolute() / "logs" / "vllm.log")


def _choose_context(settings: Settings, base: ServedBase, needed: int | None) -> Context:
    """The context for a server of this base. That of the team's own server is not ours to choose."""
    vllm = settings.inference.vllm
    if vllm.url is not None:
        return None
    folder = settings.resolved_models_dir / served_path(base.model)
    return chosen_context(vllm.max_model_len, own=own_context(folder), needed=needed)


def _as_served(settings: Settings, base: ServedBase) -> ServedBase:
    """The base model as its server is started: on a GPU, and on the team's server, always with adapters.

    On CPU a server that can add adapters cannot compile and is three times slower, so it gets them only where they are
    needed. On a GPU the difference is small, and loading a model takes long.
    """
    one_for_both = settings.inference.vllm.url is not None or not on_cpu(settings.inference.device)
    return base.model_copy(update={"adapters": True}) if one_for_both else base


def _acquire_device_if_free(settings: Settings) -> AcquireDeviceIfFree:
    lock = settings.worker.device_lock
    if lock is None or settings.inference.vllm.url is not None:  # the team's own server keeps its memory anyway
        return lambda: nullcontext(enter_result=True)
    return partial(acquire_device_if_free, lock)
