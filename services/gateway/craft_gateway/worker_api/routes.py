"""The coordinator's routes for workers, not for users: claim, renew, complete, fail and release a stage."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import SecretStr

from craft.contracts.base import Contract
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import Conflict, LeaseLost, NotFound, Unauthenticated
from craft.infra.http.bearer import bearer_check
from craft.infra.http.openapi import documented
from craft.infra.worker.reports import Coordinator

# Ids are looked up and never parsed, so a forged id is not found.
StageId = Annotated[str, Path(max_length=100)]


class Done(Contract):
    """The coordinator has stored the report."""


def worker_router(calls: Coordinator, *, token: SecretStr, reported: Callable[[], None] = lambda: None) -> APIRouter:
    """Build the routes. Every call needs the workers' bearer token.

    `reported` is called after a stored report that ends an attempt: other stages may be ready now.
    """
    router = APIRouter(
        prefix="/internal/stages/{stage_id}",
        tags=["stages"],
        dependencies=[Depends(bearer_check(token))],
        responses=documented(Unauthenticated),
    )

    @router.post("/claim", operation_id="claimStage", responses=documented(NotFound, Conflict))
    def claim(stage_id: StageId, body: Claim) -> ClaimedStage:
        claimed = calls.claim(stage_id, body)
        if claimed is None:
            raise Conflict("There is nothing to do.", hint="Wait for the next dispatch message.")
        return claimed

    @router.post("/renew", operation_id="renewStage", responses=documented(NotFound, LeaseLost))
    def renew(stage_id: StageId, body: Renew) -> Renewed:
        return calls.renew(stage_id, body)

    @router.post("/complete", operation_id="completeStage", responses=documented(NotFound, LeaseLost, Conflict))
    def complete(stage_id: StageId, body: Complete) -> Done:
        calls.complete(stage_id, body)
        reported()
        return Done()

    @router.post("/fail", operation_id="failStage", responses=documented(NotFound, LeaseLost))
    def fail(stage_id: StageId, body: Fail) -> Done:
        calls.fail(stage_id, body)
        reported()
        return Done()

    @router.post("/release", operation_id="releaseStage", responses=documented(NotFound, LeaseLost))
    def release(stage_id: StageId, body: Release) -> Done:
        calls.release(stage_id, body)
        reported()
        return Done()

    return router
