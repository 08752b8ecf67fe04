"""OpenAI's fine-tuning jobs: jobs that were submitted by OpenAI's API."""

from collections.abc import Mapping
from contextlib import suppress

from anyio.to_thread import run_sync
from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.openai.tuning import TuningEventList, TuningJob, TuningJobList, TuningJobRequest
from craft.contracts.public.accounts import Scope
from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import StageKind
from craft.errors import Conflict, DiskFull, NotFound, RequestInvalid, UserError
from craft_gateway.access.identity import Caller
from craft_gateway.job_views.reader import JobFilter, JobReader
from craft_gateway.job_views.views import event_view
from craft_gateway.jobs.batching import BatchedSubmissions
from craft_gateway.jobs.submission import Submission
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.openai.ids import event_seq, no_tuning_job, own_id
from craft_gateway.openai.specification import API_LABEL, API_VALUE, specification, with_openai_param
from craft_gateway.openai.views import tuning_event, tuning_job
from craft_gateway.serving.deployments import Deployments
from craft_gateway.store.database import Database
from craft_gateway.store.paging import read_page
from craft_gateway.store.tables import Event


class OpenAiTuning:
    """Jobs by OpenAI's ids. The adapter of a job from this API is deployed when an editor first reads its success."""

    def __init__(
        self,
        database: Database,
        reader: JobReader,
        batched: BatchedSubmissions,
        control: JobControl,
        deployments: Deployments,
    ) -> None:
        self._database = database
        self._reader = reader
        self._batched = batched
        self._control = control
        self._deployments = deployments

    async def create(self, request: TuningJobRequest, *, idempotency_key: str | None, origin: Origin) -> TuningJob:
        """Queue a job. Raises the errors of `BatchedSubmissions.submit`, with OpenAI's names of members."""
        submission = Submission(specification(request), idempotency_key, origin)
        try:
            job = await self._batched.submit(submission)
        except UserError as error:
            raise with_openai_param(error) from None
        return await run_sync(self._view, job, {})

    def find(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Return one job, and deploy its adapter where possible, unless it was withdrawn. Raises NotFound."""
        job = self._reader.job(_own_job_id(tuning_id))
        if Scope.JOBS_WRITE in caller.scopes:
            self._deploy_once(job)
        return self._view(job, self._served(job.team))

    def listed(self, team: str, *, limit: int, after: str | None, metadata: Mapping[str, str]) -> TuningJobList:
        """Return a page of the team's jobs. Raises NotFound if `after` is no job's id."""
        labels = {**metadata, API_LABEL: API_VALUE}
        last = None if after is None else _own_job_id(after)
        page = self._reader.jobs(JobFilter(team=team, limit=limit, after=last, labels=labels))
        served = self._served(team)
        return TuningJobList(data=[self._view(job, served) for job in page.data], has_more=page.has_more)

    def cancel(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Cancel a job. Raises NotFound."""
        self._control.cancel(self._job_id(tuning_id))
        return self.find(tuning_id, caller)

    def pause(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Pause a job, which frees its workers. Raises NotFound, Conflict."""
        self._control.pause(self._job_id(tuning_id))
        return self.find(tuning_id, caller)

    def resume(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Resume a job. Raises NotFound, Conflict."""
        self._control.resume(self._job_id(tuning_id))
        return self.find(tuning_id, caller)

    def events(self, tuning_id: str, *, limit: int, after: str | None) -> TuningEventList:
        """Return a page of a job's events, newest first.

        Raises NotFound; RequestInvalid if `after` is no event of the job.
        """
        job_id = self._job_id(tuning_id)
        query = select(Event).where(Event.subject == job_id).order_by(col(Event.seq).desc())
        if after is not None:
            seq = event_seq(after, job_id)
            if seq is None:
                raise RequestInvalid("The job has no such event.", hint="Give the last event's id.", param="after")
            query = query.where(col(Event.seq) < seq)
        with self._database.read() as session:
            page = read_page(session, query, limit)
        serves = self._deployments.serves
        data = [tuning_event(event_view(event), serves=serves) for event in page.rows]
        return TuningEventList(data=data, has_more=page.has_more)

    def check_exists(self, tuning_id: str) -> None:
        """Check that the job exists. Raises NotFound."""
        self._job_id(tuning_id)

    def _job_id(self, tuning_id: str) -> str:
        try:
            return self._reader.row(_own_job_id(tuning_id)).id
        except NotFound:
            raise no_tuning_job() from None

    def _deploy_once(self, job: JobView) -> None:
        deployable = job.status is JobStatus.SUCCEEDED and job.labels.get(API_LABEL) == API_VALUE
        if not (deployable and self._deployments.serves):
            return
        with self._database.read() as session:
            if _was_deployed(session, job.id):
                return
        # Where the deployment fails, the model's name stays null; `POST /craft/jobs/{id}/deploy` says why.
        with suppress(Conflict, DiskFull, NotFound, RequestInvalid):
            self._deployments.deploy(job.id, job.resolved.strategies[0])

    def _served(self, team: str) -> Mapping[tuple[str, str], str]:
        return {(row.job_id, row.strategy.value): row.id for row in self._deployments.listed(team)}

    def _view(self, job: JobView, served: Mapping[tuple[str, str], str]) -> TuningJob:
        tokens = self._trained_tokens(job.id) if job.status is JobStatus.SUCCEEDED else None
        model = served.get((job.id, job.resolved.strategies[0].value))
        return tuning_job(job, model=model, trained_tokens=tokens)

    def _trained_tokens(self, job_id: str) -> int:
        artifacts = self._reader.artifacts(job_id).data
        return sum(artifact.cost.trained_tokens for artifact in artifacts if artifact.kind is StageKind.TUNE)


def _was_deployed(session: Session, job_id: str) -> bool:
    """Return whether the adapter was deployed or withdrawn before: people's decisions stay."""
    types = (EventType.ADAPTER_DEPLOYED, EventType.ADAPTER_WITHDRAWN)
    query = select(Event.seq).where(Event.subject == job_id, col(Event.type).in_(types))
    return session.exec(query.limit(1)).first() is not None


def _own_job_id(tuning_id: str) -> str:
    job_id = own_id(tuning_id, "ftjob")
    if job_id is None:
        raise no_tuning_job()
    return job_id
