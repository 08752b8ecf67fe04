"""What the harness sees of a running system: the database's own word, or nothing while it is down."""

import contextlib
from typing import NamedTuple

from sqlmodel import col, select

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft.errors import Unavailable
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Job, Stage

_ENDED = [status for status in JobStatus if status.terminal]
_MESSAGES = 20


class Running(NamedTuple):
    """A stage in a worker's hands. `lost_attempts`: those that count against it so far."""

    stage_id: str
    fence: int
    owner: str
    lost_attempts: int


class Look:
    """Reads only. What cannot be read just now is empty."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    def running(self) -> list[Running]:
        """The stages that workers have."""
        with contextlib.suppress(Unavailable), self.database.read() as session:
            rows = session.exec(
                select(Stage.id, Stage.fence, Stage.owner, Stage.lost_attempts)
                .where(Stage.status == StageStatus.RUNNING)
                .order_by(Stage.id)
            )
            return [Running(stage_id, fence, owner or "", lost) for stage_id, fence, owner, lost in rows]
        return []

    def open_jobs(self) -> frozenset[str] | None:
        """The jobs that have not ended; None where nobody can tell."""
        with contextlib.suppress(Unavailable), self.database.read() as session:
            return frozenset(session.exec(select(Job.id).where(col(Job.status).not_in(_ENDED))))
        return None

    def dispatchable(self) -> list[tuple[Service, str]]:
        """Stages that wait, run or have lately ended: hints that a broker could deliver late or again."""
        told = [StageStatus.READY, StageStatus.RUNNING, StageStatus.SUCCEEDED]
        with contextlib.suppress(Unavailable), self.database.read() as session:
            rows = session.exec(
                select(Stage.queue, Stage.id)
                .where(col(Stage.status).in_(told), col(Stage.ready_at).is_not(None))
                .order_by(col(Stage.ready_at).desc())
                .limit(_MESSAGES)
            )
            return [(Service(queue), stage_id) for queue, stage_id in rows]
        return []

    def settled(self) -> bool:
        """Whether every job has ended and no worker has a stage."""
        return self.open_jobs() == frozenset() and not self.running()

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
