"""Workers' calls and lost leases under observation: counted, traced and logged once they are committed."""

import logging
from collections.abc import Callable
from functools import partial

from craft.contracts.stages import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import LeaseLost
from craft.infra import telemetry
from craft.infra.attempt_reports import Coordinator
from craft.infra.settings import CoordinatorSettings
from craft_gateway.database import Database
from craft_gateway.metrics import StageMetrics, never_failing
from craft_gateway.tables import Attempt, Job, Stage
from craft_gateway.transitions import Transitions
from craft_gateway.transitions_upkeep import Upkeep

_log = logging.getLogger("craft.coordinator")


class CountedCalls:
    """The same calls, each counted after its commit."""

    def __init__(self, calls: Coordinator, database: Database, metrics: StageMetrics) -> None:
        self._calls = calls
        self._database = database
        self._metrics = metrics

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        claimed = self._calls.claim(stage_id, claim)
        # Before a claim nobody knows whose trace it belongs to; afterwards the attempt's own spans tell of it.
        telemetry.routine()
        if claimed is not None:
            never_failing(lambda: self._metrics.claimed(claim.service, claimed.team, claimed.waited_seconds))
        return claimed

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        renewed = self._calls.renew(stage_id, renew)
        telemetry.routine()
        return renewed

    def complete(self, stage_id: str, complete: Complete) -> None:
        self._calls.complete(stage_id, complete)
        self._count(stage_id, complete.fence, partial(self._metrics.ended, cost=complete.manifest.result.cost))

    def fail(self, stage_id: str, fail: Fail) -> None:
        self._calls.fail(stage_id, fail)
        self._count(stage_id, fail.fence, self._metrics.ended)

    def release(self, stage_id: str, release: Release) -> None:
        self._calls.release(stage_id, release)
        self._count(stage_id, release.fence, self._metrics.ended)

    def _count(self, stage_id: str, fence: int, count: Callable[[Attempt], None]) -> None:
        def read_and_count() -> None:
            with self._database.read() as session:
                attempt = session.get(Attempt, (stage_id, fence))
            if attempt is not None:
                count(attempt)

        never_failing(read_and_count)


class CountedUpkeep(Upkeep):
    """Tells of the stages that it takes back: a worker that is gone cannot."""

    def __init__(
        self, database: Database, transitions: Transitions, *, settings: CoordinatorSettings, metrics: StageMetrics
    ) -> None:
        super().__init__(database, transitions, settings=settings)
        self._read = database.read
        self._metrics = metrics

    def take_back(self, seen: Stage) -> bool:
        """See `Upkeep.take_back`."""
        taken = super().take_back(seen)
        if taken:
            never_failing(lambda: self._tell(seen))
        return taken

    def _tell(self, seen: Stage) -> None:
        with self._read() as session:
            attempt = session.get_one(Attempt, (seen.id, seen.fence))
            traceparent = session.get_one(Job, seen.job_id).traceparent
        self._metrics.lost(attempt)
        code = str(attempt.error["code"]) if attempt.error else LeaseLost.code
        shown = {"job": seen.job_id, "stage": seen.name, "attempt": attempt.number, "owner": attempt.owner}
        _log.warning("lease_lost", extra={**shown, "code": code, "trace_id": telemetry.trace_id_of(traceparent)})
        facts = telemetry.stage_facts(
            job_id=seen.job_id,
            stage=seen.name,
            kind=seen.kind.value,
            attempt=attempt.number,
            fence=attempt.fence,
        )
        began = attempt.started_at.timestamp()
        telemetry.past_span(
            "stage",
            traceparent,
            began=began,
            ended=began + (attempt.seconds or 0.0),
            facts={**facts, "craft.outcome": "lost", "craft.error_code": code, "craft.owner": attempt.owner},
        )
