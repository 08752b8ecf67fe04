"""Counts, traces and logs workers' calls and lost leases after their commit."""

import logging
from collections.abc import Callable
from functools import partial

from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import LeaseLost
from craft.infra.observe import telemetry
from craft.infra.observe.log import never_failing
from craft.infra.worker.reports import Coordinator
from craft_gateway.metrics.counters import StageMetrics
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Attempt, Job, Stage

_log = logging.getLogger("craft.coordinator")


class CountedCalls:
    """A `Coordinator` that counts each call of another one after its commit."""

    def __init__(self, calls: Coordinator, database: Database, metrics: StageMetrics) -> None:
        self._calls = calls
        self._database = database
        self._metrics = metrics

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        claimed = self._calls.claim(stage_id, claim)
        # A claim is not traced: its trace is unknown before it, and the attempt's own spans show it afterwards.
        telemetry.mark_routine()
        if claimed is not None:
            never_failing(lambda: self._metrics.claimed(claim.service, claimed.team, claimed.waited_seconds))
        return claimed

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        renewed = self._calls.renew(stage_id, renew)
        telemetry.mark_routine()
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


class LostLeases:
    """Counts, logs and traces the stages that the reaper takes back, because the lost worker cannot."""

    def __init__(self, database: Database, metrics: StageMetrics) -> None:
        self._database = database
        self._metrics = metrics

    def report(self, stage: Stage) -> None:
        """Report the loss. `stage` has the state from before it was taken back."""
        never_failing(lambda: self._report(stage))

    def _report(self, lost: Stage) -> None:
        with self._database.read() as session:
            attempt = session.get_one(Attempt, (lost.id, lost.fence))
            traceparent = session.get_one(Job, lost.job_id).traceparent
        self._metrics.lost(attempt)
        code = str(attempt.error["code"]) if attempt.error else LeaseLost.code
        fields = {"job": lost.job_id, "stage": lost.name, "attempt": attempt.number, "owner": attempt.owner}
        _log.warning("lease_lost", extra={**fields, "code": code, "trace_id": telemetry.trace_id_of(traceparent)})
        attributes = telemetry.stage_attributes(
            job_id=lost.job_id,
            stage=lost.name,
            kind=lost.kind.value,
            attempt=attempt.number,
            fence=attempt.fence,
        )
        began = attempt.started_at.timestamp()
        telemetry.past_span(
            "stage",
            traceparent,
            began=began,
            ended=began + (attempt.seconds or 0.0),
            attributes={**attributes, "craft.outcome": "lost", "craft.error_code": code, "craft.owner": attempt.owner},
        )
