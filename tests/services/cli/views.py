"""A job's views as the server sends them."""

from datetime import UTC, datetime, timedelta

from craft.contracts.documents.estimate import Estimate
from craft.contracts.documents.evaluation import EstimateView, MetricSet, ModelMetrics
from craft.contracts.documents.report import KnowledgeSummary, ReportDocument, ReportSet, SetRole
from craft.contracts.events import StageStatus
from craft.contracts.problems import JobError
from craft.contracts.public.jobs import (
    AdapterView,
    EventView,
    JobLinks,
    JobView,
    Progress,
    QueuePlace,
    ResolvedSpec,
    StageView,
)
from craft.contracts.public.serving import AdapterDeployment, DeploymentLinks
from craft.contracts.spec.jobs import BaseModelRef, DatasetRef, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import Service, StageKind
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import Fault

JOB_ID = "cjob_01jgywz3x4v5q6r7s8t9vawbxc"
DATASET_ID = "dset_01jgywz3x4v5q6r7s8t9vawbxc"
ADAPTER_ID = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job_view(status: JobStatus, *, percent: float = 0.0) -> JobView:
    """A job with this status. A failed one has an error."""
    error = JobError(
        code="too_few_known",
        message="4 known questions are wanted, but there are 0",
        fault=Fault.USER,
        retryable=False,
        hint="lower tau",
        stage="tuning_set:craft",
        attempt=1,
    )
    paths = dict.fromkeys(JobLinks.model_fields, "/craft/jobs/x")
    return JobView(
        id=JOB_ID,
        name="a name",
        status=status,
        status_reason=None,
        progress=Progress(percent=percent),
        queue=QueuePlace(position=0, waited_seconds=0),
        stages=[],
        resolved=ResolvedSpec(
            base_model=BaseModelRef(id="tiny"),
            dataset=DatasetRef(id=DATASET_ID),
            model=ModelRef(id="tiny", revision="main", digest="0" * 64),
            engine=EngineRef(),
            embedder="e",
            questions=10,
        ),
        estimate=Estimate(
            stages=1,
            reused_stages=0,
            train_questions=1,
            held_out_questions=1,
            prompts=1,
            generated_tokens=1,
            trained_samples=1,
            optimiser_steps=1,
        ),
        error=error if status is JobStatus.FAILED else None,
        adapters=[],
        report=None,
        team="default",
        priority=50,
        pinned=False,
        retry_of=None,
        labels={},
        created_at=NOW,
        started_at=NOW,
        estimated_finish_at=None,
        finished_at=None,
        links=JobLinks(**paths),
    )


def deployment() -> AdapterDeployment:
    """The job's deployed adapter."""
    return AdapterDeployment(
        id=ADAPTER_ID,
        model=ADAPTER_ID,
        job_id=JOB_ID,
        strategy=Strategy.CRAFT,
        base_model="tiny",
        created_at=NOW,
        links=DeploymentLinks(
            job=f"/craft/jobs/{JOB_ID}", model=f"/v1/models/{ADAPTER_ID}", chat_completions="/v1/chat/completions"
        ),
    )


def event(seq: int, type_: str, **data: object) -> EventView:
    """One event of the job."""
    return EventView.model_validate({"job_id": JOB_ID, "seq": seq, "type": type_, "data": data, "created_at": NOW})


def as_sse(*events: EventView) -> bytes:
    """Events as the server streams them, with pings between them."""
    parts = [f"id: {e.seq}\nevent: {e.type}\ndata: {e.model_dump_json()}\n\n: ping\n\n" for e in events]
    return "".join(parts).encode()


def ended_view() -> JobView:
    """A job that has succeeded, with one stage and one adapter."""
    artifact = ArtifactRef(key="0" * 64, digest="0" * 64)
    stage = StageView(
        name="ingest",
        kind=StageKind.INGEST,
        service=Service.DATASETS,
        status=StageStatus.SUCCEEDED,
        attempt=1,
        reused=False,
        seconds=1.5,
        depends_on=[],
    )
    adapter = AdapterView(
        strategy=Strategy.CRAFT,
        base_model="tiny",
        artifact=artifact,
        bytes=1,
        sha256="0" * 64,
        download=f"/craft/jobs/{JOB_ID}/adapter?strategy=craft",
    )
    return job_view(JobStatus.SUCCEEDED, percent=100.0).model_copy(
        update={
            "stages": [stage],
            "adapters": [adapter],
            "queue": QueuePlace(position=0, waited_seconds=62),
            "finished_at": NOW + timedelta(minutes=12, seconds=3),
        }
    )


def report_document() -> ReportDocument:
    """A report of one set, whose models differ in THS."""
    values = {"initial_basic": (0.0, None, None), "initial_refuse": (0.403, None, None), "craft": (0.471, 0.44, 0.502)}
    models = {name: _metrics(EstimateView(value=v, low=low, high=high)) for name, (v, low, high) in values.items()}
    held_out = ReportSet(name="held_out", role=SetRole.HELD_OUT, questions=100, models=models, comparisons=[])
    knowledge = KnowledgeSummary(questions=100, mean_correctness=0.5, mean_certainty=0.5, never_right=1, always_right=1)
    return ReportDocument(
        task=Task.OPEN_ENDED,
        strategies=["craft"],
        job={},
        sets=[held_out],
        knowledge=knowledge,
        selection={},
        training={},
        cost=[],
        examples={},
        notes=[],
        versions={},
    )


def _metrics(ths: EstimateView) -> ModelMetrics:
    metrics = MetricSet(**{name: ths if name == "ths" else EstimateView(value=0.5) for name in MetricSet.model_fields})
    return ModelMetrics(count=100, micro=metrics, macro=metrics, categories={})
