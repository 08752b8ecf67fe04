"""Fakes for tests of the worker: a coordinator and a clock; helpers for real child processes."""

import os
import queue
import select
from pathlib import Path

from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.contracts.stages.parameters import FlowParameters, ReportParameters
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import CraftError

PATIENCE_SECONDS = 60
KEY = "a" * 64
TOYS = "toy_stages:stage_functions"


class FakeClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeCoordinator:
    """Answers as the test sets; `errors` maps an action to the errors of its next calls."""

    def __init__(self) -> None:
        self.claimed: ClaimedStage | None = claimed()
        self.renewed = Renewed()
        self.errors: dict[str, list[CraftError]] = {}
        self.calls: list[str] = []
        self.said: queue.SimpleQueue[Renew | Complete | Fail | Release] = queue.SimpleQueue()
        self.owner: Claim | None = None

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        self.owner = claim
        self._called("claim")
        return self.claimed

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        self._called("renew")
        self.said.put(renew)
        return self.renewed

    def complete(self, stage_id: str, complete: Complete) -> None:
        self._called("complete")
        self.said.put(complete)

    def fail(self, stage_id: str, fail: Fail) -> None:
        self._called("fail")
        self.said.put(fail)

    def release(self, stage_id: str, release: Release) -> None:
        self._called("release")
        self.said.put(release)

    def _called(self, action: str) -> None:
        self.calls.append(action)
        if errors := self.errors.get(action):
            raise errors.pop(0)

    def last(self) -> Renew | Complete | Fail | Release:
        said = [self.said.get() for _ in range(self.said.qsize())]
        return said[-1]


def claimed(
    *, beat_seconds: float = 3600.0, timeout_seconds: float = 3600.0, inputs: dict[str, ArtifactRef] | None = None
) -> ClaimedStage:
    return ClaimedStage(
        stage_id="stg_1",
        job_id="cjob_1",
        name="flow",
        attempt=1,
        fence=7,
        key=KEY,
        parameters=FlowParameters(),
        inputs=inputs or {},
        lease_seconds=90,
        beat_seconds=beat_seconds,
        timeout_seconds=timeout_seconds,
    )


def report(**job: object) -> ReportParameters:
    return ReportParameters(job=job, task=Task.OPEN_ENDED, strategies=[Strategy.CRAFT], seed=1)


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **more}


def gone(pid: int, seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait until the process has ended; a zombie counts as ended. False after `seconds`."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
