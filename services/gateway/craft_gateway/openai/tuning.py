"""OpenAI's fine-tuning jobs: jobs that came in that form."""

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
from craft_gateway.openai.specification import API_LABEL, API_VALUE, in_openais_words, specification
from craft_gateway.openai.views import tuning_event, tuning_job
from craft_gateway.serving.deployments import Deployments
from craft_gateway.store.database import Database
from craft_gateway.store.paging import read_page
from craft_gateway.store.tables import Event


class OpenAiTuning:
    """Jobs by OpenAI's ids. Those that came in OpenAI's form are served once an editor looks at their success."""

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
        """Queue a job. Raises what `BatchedSubmissions.submit` raises, in OpenAI's words."""
        asked = Submission(specification(request), idempotency_key, origin)
        try:
            job = await self._batched.submit(asked)
        except UserError as error:
            raise in_openais_words(error) from None
        return await run_sync(self._view, job, {})

    def find(self, tuning_id: str, caller: Caller) -> TuningJob:
        """One job; its adapter is served from now on, where it can be and nobody withdrew it. Raises NotFound."""
        job = self._reader.job(_own(tuning_id))
        if Scope.JOBS_WRITE in caller.scopes:
            self._serve(job)
        return self._view(job, self._served(job.team))

    def listed(self, team: str, *, limit: int, after: str | None, metadata: Mapping[str, str]) -> TuningJobList:
        """A page of the team's jobs. Raises NotFound where `after` is no job's id."""
        labels = {**metadata, API_LABEL: API_VALUE}
        last = None if after is None else _own(after)
        page = self._reader.jobs(JobFilter(team=team, limit=limit, after=last, labels=labels))
        served = self._served(team)
        return TuningJobList(data=[self._view(job, served) for job in page.data], has_more=page.has_more)

    def cancel(self, tuning_id: str, caller: Caller) -> TuningJob:
        """End it. Raises NotFound."""
        self._control.cancel(self._known(tuning_id))
        return self.find(tuning_id, caller)

    def pause(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Free its workers. Raises NotFound, Conflict."""
        self._control.pause(self._known(tuning_id))
        return self.find(tuning_id, caller)

    def resume(self, tuning_id: str, caller: Caller) -> TuningJob:
        """Go on with it. Raises NotFound, Conflict."""
        self._control.resume(self._known(tuning_id))
        return self.find(tuning_id, caller)

    def events(self, tuning_id: str, *, limit: int, after: str | None) -> TuningEventList:
        """A page of its events, newest first. Raises NotFound, RequestInvalid where `after` is no event of it."""
        job_id = self._known(tuning_id)
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

    def known(self, tuning_id: str) -> None:
        """Raises NotFound."""
        self._known(tuning_id)

    def _known(self, tuning_id: str) -> str:
        try:
            return self._reader.row(_own(tuning_id)).id
        except NotFound:
            raise no_tuning_job() from None

    def _serve(self, job: JobView) -> None:
        wanted = job.status is JobStatus.SUCCEEDED and job.labels.get(API_LABEL) == API_VALUE
        if not (wanted and self._deployments.serves):
            return
        with self._database.read() as session:
            if _decided(session, job.id):
                return
        # Where it cannot be served the name is null, and deploying it by hand says why.
        with suppress(Conflict, DiskFull, NotFound, RequestInvalid):
            self._deployments.deploy(job.id, job.resolved.strategies[0])

    def _served(self, team: str) -> Mapping[tuple[str, str], str]:
        return {(row.job_id, row.strategy.value): row.id for row in self._deployments.listed(team)}

    def _view(self, job: JobView, served: Mapping[tuple[str, str], str]) -> TuningJob:
        tokens = self._trained_tokens(job.id) if job.status is JobStatus.SUCCEEDED else None
        model = served.get((job.id, job.resolved.strategies[0].value))
        return tuning_job(job, model=model, trained_tokens=tokens)

    def _trained_tokens(self, job_id: str) -> int:
        made = self._reader.artifacts(job_id).data
        return sum(artifact.cost.trained_tokens for artifact in made if artifact.kind is StageKind.TUNE)


def _decided(session: Session, job_id: str) -> bool:
    """Whether the adapter was deployed or withdrawn before: what people decided stays so."""
    told = (EventType.ADAPTER_DEPLOYED, EventType.ADAPTER_WITHDRAWN)
    query = select(Event.seq).where(Event.subject == job_id, col(Event.type).in_(told))
    return session.exec(query.limit(1)).first() is not None


def _own(tuning_id: str) -> str:
    found = own_id(tuning_id, "ftjob")
    if found is None:
        raise no_tuning_job()
    return found
