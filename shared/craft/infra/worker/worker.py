"""The worker process of a service: a Celery worker whose only task passes a stage's id to the runner.

It never imports a service's stages: the child process imports them and the libraries that they need.
"""

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery, signals

from craft.contracts.stages.claims import owner_at
from craft.contracts.stages.kinds import Service
from craft.errors import DeviceFailed
from craft.infra.broker.celery import TASK_NAME, celery_app
from craft.infra.ids import new_id
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.storage.sick_workers import SickWorkers
from craft.infra.worker.child_supervisor import WarmChild
from craft.infra.worker.coordinator_client import CoordinatorClient
from craft.infra.worker.device import (
    device_lock,
    model_servers_device,
    no_device_lock,
    no_memory_to_release,
    release_device,
)
from craft.infra.worker.device_gate import self_test, wait_until_well
from craft.infra.worker.device_use import DeviceUse
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner

EXIT_DEVICE_FAILED = 69
"""The exit code of a worker whose device failed: "service unavailable" in sysexits.h."""
_POLL_AGAIN_SECONDS = 0.02
_MAX_DEVICE_LENGTH = 100
"""As a claim may have it."""
_log = logging.getLogger("craft.worker")


def _device_lock_path(service: Service, settings: Settings) -> Path | None:
    return settings.worker.device_lock if service.locks_device else None


def _device_name(lock_path: Path, hardware: str | None) -> str:
    """The name under which the queue shows the device."""
    return lock_path.stem if hardware is None else f"{lock_path.stem} ({hardware})"[:_MAX_DEVICE_LENGTH]


def _has_own_vllm(settings: Settings) -> bool:
    return settings.inference.engine == "vllm" and settings.inference.vllm.url is None


def _shares_memory_with_vllm(service: Service, settings: Settings) -> bool:
    locked = settings.worker.device_lock is not None
    return service is Service.TRAINING and _has_own_vllm(settings) and locked


def run(service: Service, stage_functions_path: str, settings: Settings) -> None:
    """Process the service's queue until SIGTERM or SIGINT, then exit within the grace period of the settings.

    A worker whose device failed gives its stage back and exits with EXIT_DEVICE_FAILED: whoever restarts it starts it
    with the self-test, which keeps it from every stage until the device is well.
    `stage_functions_path` is `package.module:callable`, which returns `StageFunctions`; only the child imports it.
    """
    require_token(settings, "worker_token")
    log.configure(settings, f"{service.value}-worker")
    telemetry.configure(settings, f"{service.value}-worker")
    # Our own lines report the outcome of each message; Celery would report it twice more.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        use = DeviceUse.of(service, settings, os.environ)
        environment = use.environment(os.environ)
    except DeviceFailed as error:
        sys.exit(f"{error.message}\n{error.hint}")
    hardware = _well_device(service, settings, use, environment)
    child = WarmChild(stage_functions_path, _child_settings(service, settings, use), environment=environment)
    client = CoordinatorClient(settings.resolved_coordinator_url, settings.worker_token)
    runner = _runner(service, settings, use, child=child, client=client, hardware=hardware)
    app = celery_app(settings)
    device_failures: list[str] = []
    _register(app, runner, on_device_failed=device_failures.append)

    # The signal handler only puts into this queue, which is reentrant; a separate thread does the rest.
    stops: queue.SimpleQueue[None] = queue.SimpleQueue()

    def stop_soon(**_: object) -> None:
        stops.put(None)

    threading.Thread(target=_stop, args=(stops, runner, child, settings), name="shutdown", daemon=True).start()
    signals.worker_shutting_down.connect(stop_soon, weak=False)
    signals.setup_logging.connect(_leave_logging, weak=False)
    try:
        # Threads, never solo or prefork: the pool's one thread only waits for the child, and signals still arrive.
        worker = app.Worker(
            pool="threads",
            concurrency=1,
            queues=[service.value],
            # Workers need not know each other, and their leases show that they live: these three would only cost
            # connections, and need rights on the broker's channels.
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        signals.task_postrun.connect(_poll_after_task(worker), weak=False)
        worker.start()
    finally:
        child.close()
        client.close()
        telemetry.flush()
    sys.exit(EXIT_DEVICE_FAILED if device_failures else worker.exitcode or 0)


def _well_device(service: Service, settings: Settings, use: DeviceUse, environment: Mapping[str, str]) -> str | None:
    """Wait until the device passes its self-test, and return its name; None where the service uses none.

    A note below the artifacts tells those who wait for this worker. vLLM's device is the model server's to test.
    """
    if use.on_gpu:
        test = partial(self_test, environment, setting=use.setting)
    elif service is Service.INFERENCE and _has_own_vllm(settings):
        test = partial(model_servers_device, settings.resolved_model_server_url, settings.model_server_token)
    else:
        return None
    notes, place = SickWorkers(settings.resolved_artifacts_dir), use.place(socket.gethostname())
    report = wait_until_well(test, on_failure=lambda words: notes.note(service, place, words))
    notes.forget(service, place)
    return report.title if use.on_gpu else None


def _child_settings(service: Service, settings: Settings, use: DeviceUse) -> WorkerSettings:
    own = use.settings(settings.worker)
    # Both would occupy the device's memory while idle: vLLM is stopped, and our child does not stay warm.
    return own.model_copy(update={"warm_seconds": 0.0}) if _shares_memory_with_vllm(service, settings) else own


def _runner(
    service: Service,
    settings: Settings,
    use: DeviceUse,
    *,
    child: WarmChild,
    client: CoordinatorClient,
    hardware: str | None,
) -> StageRunner:
    release_memory: Callable[[], None] = no_memory_to_release
    if _shares_memory_with_vllm(service, settings):
        release_memory = partial(release_device, settings.resolved_model_server_url, settings.model_server_token)
    lock_path = _device_lock_path(service, settings)
    return StageRunner(
        service=service,
        owner=_owner(use.place(socket.gethostname())),
        coordinator=client,
        store=FolderStore(settings.resolved_artifacts_dir),
        child=child,
        settings=settings.worker,
        redact=log.redactor(settings),
        device_lock=no_device_lock if lock_path is None else device_lock(lock_path),
        device=None if lock_path is None else _device_name(lock_path, hardware),
        release_memory=release_memory,
    )


def _register(app: Celery, runner: StageRunner, *, on_device_failed: Callable[[str], None]) -> None:
    def stage(stage_id: str) -> None:
        """Handle a dispatch message: a stage may be ready. The coordinator decides what happens next."""
        ended = runner.run(stage_id)
        _log.info("dispatch_done", extra={"stage_id": stage_id, "ended": ended.value})
        if ended is AttemptEnd.DEVICE_FAILED:
            _log.error(
                "device_failed", extra={"stage_id": stage_id, "detail": "This worker ends: see the stage's error."}
            )
            on_device_failed(stage_id)
            runner.stop()
            os.kill(os.getpid(), signal.SIGTERM)

    app.task(name=TASK_NAME, ignore_result=True)(stage)


def _poll_after_task(worker: Any) -> Callable[..., None]:
    """Make Celery poll when a task is done; with prefetch disabled it polls for the next message once a second.

    The poll comes a little later, because the finished task counts until shortly after its signal.
    """

    def poll(**_: object) -> None:
        worker.hub.call_soon(worker.hub.timer.call_after, _POLL_AGAIN_SECONDS, lambda: None)

    return poll


def _owner(place: str) -> str:
    """A name for this process. A restarted process at the same place is another owner."""
    return owner_at(place, os.getpid(), new_id("wrk"))


def _leave_logging(**_: object) -> None:
    """Receive the signal and do nothing: a receiver keeps Celery from replacing the log handlers."""


def _stop(stops: "queue.SimpleQueue[None]", runner: StageRunner, child: WarmChild, settings: Settings) -> None:
    stops.get()
    runner.stop()
    time.sleep(settings.worker.grace_seconds)
    # The last resort where a call hangs. The lease expires by itself, but the process would not end.
    _log.error("shutdown_overdue")
    child.kill(grace_seconds=0)
    os._exit(1)
