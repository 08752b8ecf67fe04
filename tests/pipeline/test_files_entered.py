"""The journey of a job, counted: how many files of the product one request enters, and one stage's whole way.

A file counts once a function of it runs. The tracer sees every thread that begins inside its block, so each count takes
an application, a worker and their threads that are new.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import select
from tests.services.gateway.rigs.dataset_rig import dataset_rig
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, body, model_folder, rows

from craft.contracts.problems import StageError
from craft.contracts.services.datasets import Reading
from craft.contracts.stages.kinds import Service
from craft.errors import CraftError
from craft.infra.http.app import create_app
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.stage.context import LocalContext
from craft.infra.worker.child_process import StageListener, StageWork
from craft.infra.worker.coordinator_client import CoordinatorClient
from craft.infra.worker.device import device_lock
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner
from craft_datasets.stages import stage_functions
from craft_gateway.store.tables import Stage
from craft_gateway.worker_api.routes import worker_router

ROOT = Path(__file__).parents[2]
PRODUCT = (f"{ROOT}/services/", f"{ROOT}/shared/craft/")
TOKEN = SecretStr("the workers' token")
MAX_FILES_OF_A_POST = 82
"""Some twenty of them look at the rows, the model and the settings before anything is queued."""
MAX_FILES_TO_A_REPORT = 106


@contextmanager
def entered() -> Iterator[set[str]]:
    """The product's files of which a function runs inside the block, in this thread or in one that begins there."""
    found: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(PRODUCT):
            found.add(code.co_filename.removeprefix(f"{ROOT}/"))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


class ThreadChild:
    """Does stages in a thread of this process, where the tracer sees them."""

    def start(self, work: StageWork, listener: StageListener) -> None:
        threading.Thread(target=self._do, args=(work, listener), daemon=True).start()

    def kill(self, *, grace_seconds: float | None = None) -> None: ...

    def _do(self, work: StageWork, listener: StageListener) -> None:
        context = LocalContext(work.output, work.checkpoint, work.inputs, on_progress=listener.on_progress)
        try:
            result = stage_functions()[work.parameters.kind](work.parameters, context)
        except CraftError as error:
            listener.on_outcome(Failed(error=StageError.of(error), reusable=True))
        else:
            listener.on_outcome(Finished(result=result))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """An API that was never asked before, over a model whose weights can be read."""
    with dataset_rig(tmp_path / "state") as made:
        yield made.rig


def job_body(rig: Rig) -> dict[str, Any]:
    """A job on a dataset that was uploaded before, and on a model whose weights can be read."""
    model_folder(rig.models, "some/model")
    dataset = rig.registry.add_rows(rows(), Reading(), name=None, team="default")
    return body(dataset={"id": dataset.id}, base_model={"id": "some/model"})


def counted(title: str, files: set[str]) -> str:
    gateway = sum(file.startswith("services/gateway/") for file in files)
    return f"{title}: {len(files)} files, {gateway} of them the gateway's"


def shown(title: str, files: set[str]) -> str:
    return "\n".join([counted(title, files), *sorted(files)])


def test_one_post_of_a_job_enters_few_files(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    asked = job_body(rig)
    with entered() as files:
        answer = rig.post("/craft/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    with capsys.disabled():
        print(f"\n{counted('POST of a job', files)}")
    assert "services/gateway/craft_gateway/jobs/submission.py" in files
    assert len(files) <= MAX_FILES_OF_A_POST, shown("POST of a job", files)


def test_from_the_post_to_a_stages_report_a_job_enters_few_files(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = job_body(rig)
    coordinator = create_app(title="test", service="coordinator", routers=[worker_router(rig.calls, token=TOKEN)])
    with entered() as files:
        job_id = str(rig.post("/craft/jobs", json=asked).json()["id"])
        with served(coordinator) as url, closing(CoordinatorClient(url, TOKEN)) as client:
            runner = StageRunner(
                service=Service.DATASETS,
                owner="host-1-wrk_1",
                coordinator=client,
                store=rig.store,
                child=ThreadChild(),
                settings=WorkerSettings(),
                device_lock=device_lock(tmp_path / "device.lock"),
            )
            ended = runner.run(stage_id(rig, job_id))
    assert ended is AttemptEnd.COMPLETED
    with capsys.disabled():
        print(f"\n{counted('POST, claim, work and report of a stage', files)}")
    assert {"shared/craft/infra/worker/attempt.py", "services/datasets/craft_datasets/stages.py"} <= files
    assert len(files) <= MAX_FILES_TO_A_REPORT, shown("POST, claim, work and report of a stage", files)


def stage_id(rig: Rig, job_id: str) -> str:
    """The job's first stage."""
    with rig.database.read() as session:
        return session.exec(select(Stage.id).where(Stage.job_id == job_id, Stage.name == "ingest")).one()
