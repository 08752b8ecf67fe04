"""OpenAI's routes of fine-tuning jobs."""

import re
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request

from craft.contracts.openai.tuning import (
    TuningCheckpointList,
    TuningEventList,
    TuningJob,
    TuningJobList,
    TuningJobRequest,
)
from craft.contracts.spec.jobs import PlainText
from craft.infra.observe.telemetry import current_traceparent
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.parameters import IdempotencyKey, Limit, plain_text
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.openai.errors import OPENAI_RESPONSES, missing
from craft_gateway.openai.examples import TUNING_EXAMPLES
from craft_gateway.openai.routes_chat import OpenAiRoute
from craft_gateway.openai.tuning import OpenAiTuning

_METADATA = re.compile(r"metadata\[([^\]\x00]{1,64})\]")
_Id = Annotated[PlainText, Path(max_length=100, examples=["ftjob-01jgywz3x4v5q6r7s8t9vawbxc"])]
_After = Annotated[PlainText | None, Query(max_length=100, description="The id of the last one on the page before.")]
_NO_JOB = missing("no such fine-tuning job")


def router(owners: OwnerLookup, tuning: OpenAiTuning) -> APIRouter:
    """Build the routes."""
    routes = APIRouter(
        prefix="/fine_tuning/jobs",
        tags=["fine-tuning"],
        route_class=OpenAiRoute,
        responses=OPENAI_RESPONSES,
        dependencies=authorised(owners, JOBS),
    )
    _add_job_routes(routes, tuning)
    _add_control_routes(routes, tuning)
    return routes


def _add_job_routes(routes: APIRouter, tuning: OpenAiTuning) -> None:
    @routes.post("", operation_id="createTuningJob")
    async def create_tuning_job(
        request: Annotated[TuningJobRequest, Body(openapi_examples=TUNING_EXAMPLES)],
        caller: CallerOf,
        idempotency_key: IdempotencyKey = None,
    ) -> TuningJob:
        """Queue a supervised job on a file, for a base model of this installation."""
        origin = Origin(team=caller.team, actor=caller.actor, traceparent=current_traceparent())
        return await tuning.create(request, idempotency_key=idempotency_key, origin=origin)

    @routes.get("", operation_id="listTuningJobs")
    def list_tuning_jobs(request: Request, caller: CallerOf, limit: Limit = 20, after: _After = None) -> TuningJobList:
        """List the jobs that were created by this API, newest first. `metadata[k]=v` selects jobs with this value."""
        pairs = ((_METADATA.fullmatch(name), value) for name, value in request.query_params.multi_items())
        metadata = {match[1]: plain_text(value, param=match[0]) for match, value in pairs if match is not None}
        return tuning.listed(caller.team, limit=limit, after=after, metadata=metadata)

    @routes.get("/{fine_tuning_job_id}", operation_id="getTuningJob", responses=_NO_JOB)
    def get_tuning_job(fine_tuning_job_id: _Id, caller: CallerOf) -> TuningJob:
        """Return one job. After its success its adapter is served, if this installation serves adapters."""
        return tuning.find(fine_tuning_job_id, caller)

    @routes.get("/{fine_tuning_job_id}/events", operation_id="listTuningEvents", responses=_NO_JOB)
    def list_tuning_events(fine_tuning_job_id: _Id, limit: Limit = 20, after: _After = None) -> TuningEventList:
        """List the events of a job, newest first."""
        return tuning.events(fine_tuning_job_id, limit=limit, after=after)

    @routes.get("/{fine_tuning_job_id}/checkpoints", operation_id="listTuningCheckpoints", responses=_NO_JOB)
    def list_tuning_checkpoints(fine_tuning_job_id: _Id) -> TuningCheckpointList:
        """Return an empty list: checkpoints here only resume a stopped training, and are not served."""
        tuning.check_exists(fine_tuning_job_id)
        return TuningCheckpointList()


def _add_control_routes(routes: APIRouter, tuning: OpenAiTuning) -> None:
    @routes.post("/{fine_tuning_job_id}/cancel", operation_id="cancelTuningJob", responses=_NO_JOB)
    def cancel_tuning_job(fine_tuning_job_id: _Id, caller: CallerOf) -> TuningJob:
        """Cancel a job. A job that has ended does not change."""
        return tuning.cancel(fine_tuning_job_id, caller)

    @routes.post("/{fine_tuning_job_id}/pause", operation_id="pauseTuningJob", responses=_NO_JOB)
    def pause_tuning_job(fine_tuning_job_id: _Id, caller: CallerOf) -> TuningJob:
        """Pause a job, which frees its workers for others."""
        return tuning.pause(fine_tuning_job_id, caller)

    @routes.post("/{fine_tuning_job_id}/resume", operation_id="resumeTuningJob", responses=_NO_JOB)
    def resume_tuning_job(fine_tuning_job_id: _Id, caller: CallerOf) -> TuningJob:
        """Resume a paused job."""
        return tuning.resume(fine_tuning_job_id, caller)
