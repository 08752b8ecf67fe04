"""`craft jobs validate` for people: numbers with units, or "unknown"."""

from tests.services.cli.views import job_view

from craft.contracts.documents.estimate import (
    Basis,
    Check,
    CheckOutcome,
    MemoryEstimate,
    QueueEstimate,
    SecondsEstimate,
    StageEstimate,
)
from craft.contracts.public.jobs import PlannedStageView, ValidationView
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service, StageKind
from craft_cli.tables import estimates

JOB = job_view(JobStatus.QUEUED)
PROBE, TUNE = "probe:initial", "tune:craft"
GIB = 2**30


def stage(name: str, kind: StageKind, service: Service, *, reused: bool = False) -> PlannedStageView:
    return PlannedStageView(name=name, kind=kind, service=service, depends_on=[], reused=reused)


def known() -> ValidationView:
    """A reused stage, one with past durations, and one that has never run."""
    likely = SecondsEstimate(seconds=90.0, low=60.0, high=7200.0, based_on=7, basis=Basis.SCALED)
    memory = MemoryEstimate(
        parameters=1,
        weights_bytes=1,
        adapter_bytes=1,
        training_bytes=1,
        inference_bytes=1,
        host_bytes=GIB,
        device_bytes=3 * GIB,
        row_tokens=148,
        measured_bytes=2 * GIB,
    )
    probe = StageEstimate(stage=PROBE, kind=StageKind.PROBE, units=1200, reused=False, seconds=likely)
    estimate = JOB.estimate.model_copy(
        update={
            "stage_estimates": [probe],
            "seconds": likely,
            "expected_generated_tokens": 4096,
            "memory": memory,
            "queue": QueueEstimate(seconds=5.0, ahead=2),
        }
    )
    return ValidationView(
        resolved=JOB.resolved,
        stages=[
            stage("ingest", StageKind.INGEST, Service.DATASETS, reused=True),
            stage(PROBE, StageKind.PROBE, Service.INFERENCE),
            stage(TUNE, StageKind.TUNE, Service.TRAINING),
        ],
        estimate=estimate,
        checks=[Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message="Used up.", hint="Wait for tomorrow.")],
    )


def test_a_stage_has_its_service_its_units_and_its_time_with_an_interval() -> None:
    assert [*estimates.stages(known()).lines(120)] == [
        "stage          by         units                     takes   from past stages",
        "ingest         reused",
        "probe:initial  inference  1,200  1.5 min [1.0 min, 2.0 h]  7 of other models",
        "tune:craft     training                           unknown",
    ]


def test_the_job_is_described_in_words() -> None:
    assert [*estimates.lines(known().estimate)][2:] == [
        "likely: 4,096 tokens generated",
        "time: 1.5 min [1.0 min, 2.0 h]",
        "memory: about 3.0 GiB on the accelerator (without one, on the host) for rows of at most 148 tokens; "
        "past stages took 2.0 GiB",
        "begins: in 5.0 s, stages before it: 2",
    ]


def test_a_new_installation_shows_unknown() -> None:
    assert [*estimates.lines(JOB.estimate)][2:] == [
        "likely: unknown, no such stage has run here",
        "time: unknown",
    ]


def test_a_check_has_its_hint() -> None:
    assert [*estimates.checks(known())] == ["[waits] gpu_seconds: Used up.", "  Hint: Wait for tomorrow."]
