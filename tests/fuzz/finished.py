"""Jobs brought to their end by one worker without models, so that reports and adapters are there to be asked for."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from pydantic import SecretStr
from tests.bench.gateway_workers import Workplace
from tests.services.gateway.rigs.public_rig import published

from craft.contracts.stages.claims import Claim, Complete
from craft.contracts.stages.kinds import Service
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.coordinator_client import CoordinatorClient

_READY = "SELECT id, queue FROM stage WHERE job_id = ? AND status = 'ready' LIMIT 1"


def finish(place: Workplace, job_ids: Sequence[str]) -> None:
    """Do every stage of these jobs, which succeed."""
    store = FolderStore(place.artifacts)
    with (
        CoordinatorClient(place.coordinator_url, SecretStr(place.token)) as coordinator,
        closing(sqlite3.connect(f"file:{place.database}?mode=ro", uri=True)) as database,
    ):
        for job_id in job_ids:
            while (row := database.execute(_READY, (job_id,)).fetchone()) is not None:
                stage = coordinator.claim(row[0], Claim(owner="fuzz", service=Service(row[1])))
                assert stage is not None, f"nobody else works, and {row[0]} is ready"
                coordinator.complete(stage.stage_id, Complete(fence=stage.fence, manifest=published(store, stage)))
