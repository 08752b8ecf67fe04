"""Traces of requests and attempts, their export, and a collector that does not answer."""

import asyncio
import logging
import queue
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import APIRouter
from tests.otlp_collector import Collector, collected

from craft.contracts.stages.claims import ClaimedStage, Renew, Renewed
from craft.contracts.stages.parameters import FlowParameters
from craft.errors import Conflict, DiskFull
from craft.infra.http.app import create_app
from craft.infra.observe import telemetry
from craft.infra.settings.settings import Settings
from craft.infra.worker.heartbeat import Heartbeat, HeartbeatIntervals, StopReason
from craft.infra.worker.stage_log import LogBuffer

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collected() as made:
        yield made


def ask(path: str, *, method: str = "GET", traceparent: str | None = None) -> httpx.Response:
    router = APIRouter()

    @router.get("/here/{number}")
    def here(number: int) -> dict[str, object]:
        return {"traceparent": telemetry.current_traceparent(), "log": telemetry.log_fields()}

    @router.get("/defect")
    def defect() -> None:
        raise ValueError("the password is hunter2")

    @router.get("/routine/{number}")
    def routine(number: int) -> None:
        telemetry.mark_routine()
        if number == 409:
            raise Conflict("taken")
        if number == 507:
            raise DiskFull("full")

    app = create_app(title="Things", service="things", routers=[router])
    headers = {} if traceparent is None else {b"traceparent": traceparent.encode("latin-1")}

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://things", headers=headers) as client:
            return await client.request(method, path)

    return asyncio.run(exchange())


def claimed(**changes: object) -> ClaimedStage:
    given = {
        "stage_id": "stg_1",
        "job_id": "cjob_1",
        "name": "flow",
        "attempt": 2,
        "fence": 7,
        "key": "a" * 64,
        "parameters": FlowParameters(),
        "inputs": {},
        "lease_seconds": 90,
        "beat_seconds": 15,
        "timeout_seconds": 60,
        "waited_seconds": 12.5,
        "traceparent": CALLER,
    }
    return ClaimedStage.model_validate(given | changes)


def test_without_a_collector_a_callers_trace_is_passed_on() -> None:
    assert ask("/here/1", traceparent=CALLER).json()["traceparent"] == CALLER


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        CALLER.upper(),
        CALLER.replace(TRACE, "0" * 32),
        f"{CALLER}-more",
        f"ff{CALLER[2:]}",
        "00-" + "4" * 500,
        "00-\u00e9",
    ],
)
def test_without_a_usable_trace_a_request_gets_one_that_says_that_nothing_is_recorded(given: str | None) -> None:
    first, second = (ask("/here/1", traceparent=given).json() for _ in range(2))
    assert VALID.fullmatch(first["traceparent"])
    assert first["traceparent"].endswith("-00")
    assert first["log"]["trace_id"] != second["log"]["trace_id"]


def test_outside_of_a_request_there_is_no_trace() -> None:
    assert telemetry.current_traceparent() is None
    assert telemetry.trace_headers() == {}
    assert telemetry.log_fields() == {}


def test_without_a_collector_the_sdk_is_not_even_imported() -> None:
    script = """
import sys
from craft.infra.observe import telemetry
from craft.infra.settings.settings import Settings
telemetry.configure(Settings(otlp_endpoint=""), "test")
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_request_leaves_a_span_below_its_callers(collector: Collector) -> None:
    seen = ask("/here/7", traceparent=CALLER).json()
    span = collector.only("GET /here/{number}")
    assert collector.paths[0] == "/v1/traces"
    assert (span.service, span.trace_id, span.parent_id) == ("craft-test", TRACE, "00f067aa0ba902b7")
    assert seen["traceparent"] == f"00-{TRACE}-{span.span_id}-01"
    assert span.facts["http.response.status_code"] == 200
    assert span.facts["craft.request_id"] == seen["log"]["request_id"]
    assert not span.failed


def test_a_caller_who_records_nothing_is_not_recorded(collector: Collector) -> None:
    assert ask("/here/7", traceparent=f"{CALLER[:-2]}00").json()["log"]["trace_id"] == TRACE
    assert collector.spans() == []


def test_probes_and_scrapes_leave_no_spans(collector: Collector) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(path).status_code == 200
    assert collector.spans() == []


def test_a_defect_marks_the_span_and_its_text_stays_here(collector: Collector) -> None:
    assert ask("/defect").status_code == 500
    span = collector.only("GET /defect")
    assert span.failed
    assert "hunter2" not in str(span)


def test_an_unknown_method_names_no_span(collector: Collector) -> None:
    ask("/here/1", method="BREW")
    assert [span.name for span in collector.spans()] == ["other /here/{number}"]


def test_routine_leaves_only_its_defects(collector: Collector) -> None:
    for number in (200, 409, 507):
        ask(f"/routine/{number}")
    assert [span.facts["http.response.status_code"] for span in collector.spans()] == [507]


def test_an_attempt_and_its_wait_hang_below_the_job(collector: Collector) -> None:
    with telemetry.stage_span(claimed()):
        inside = telemetry.current_traceparent()
        telemetry.set_attributes(outcome="failed")
        telemetry.mark_failed("gpu_oom")
    queue, stage = collector.only("queue"), collector.only("stage")
    assert {queue.trace_id, stage.trace_id} == {TRACE}
    assert {queue.parent_id, stage.parent_id} == {"00f067aa0ba902b7"}
    assert inside == f"00-{TRACE}-{stage.span_id}-01"
    assert queue.ended - queue.began == pytest.approx(12.5)
    assert queue.ended == pytest.approx(stage.began, abs=1.0)
    assert stage.failed
    assert stage.facts == {
        "craft.job_id": "cjob_1",
        "craft.stage": "flow",
        "craft.stage_kind": "flow",
        "craft.attempt": 2,
        "craft.fence": 7,
        "craft.outcome": "failed",
        "craft.error_code": "gpu_oom",
    }


def test_a_stage_of_a_job_without_a_trace_has_one_of_its_own(collector: Collector) -> None:
    with telemetry.stage_span(claimed(traceparent=None)):
        pass
    (stage,) = collector.spans()
    assert (stage.name, stage.parent_id) == ("stage", "")


def test_heartbeats_belong_to_the_attempt() -> None:
    sent: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    reasons: queue.SimpleQueue[StopReason] = queue.SimpleQueue()

    def renew(renewal: Renew) -> Renewed:
        sent.put(telemetry.trace_headers())
        return Renewed()

    with telemetry.stage_span(claimed()):
        heartbeat = Heartbeat(
            renew,
            fence=7,
            log=LogBuffer(),
            intervals=HeartbeatIntervals(beat_seconds=0.01, give_up_seconds=60.0),
            on_stop=reasons.put,
            clock=time.monotonic,
            last_contact=time.monotonic(),
        )
    try:
        assert sent.get(timeout=30) == {"traceparent": CALLER}
    finally:
        heartbeat.close()


def test_lines_within_an_attempt_say_whose_they_are() -> None:
    with telemetry.stage_span(claimed()):
        assert telemetry.log_fields() == {"job": "cjob_1", "stage": "flow", "attempt": 2, "trace_id": TRACE}
    assert telemetry.log_fields() == {}


def test_a_collector_that_refuses_is_complained_of_once(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for status in (400, 400, 400, 200):
        collector.status = status
        ask("/here/1")
        collector.spans()
    ours = [record.message for record in caplog.records if record.name == "craft.telemetry"]
    theirs = [record for record in caplog.records if record.name.startswith("opentelemetry.exporter")]
    assert ours == ["traces_are_lost", "traces_arrive_again"]
    assert len(theirs) == 1


def test_a_collector_that_does_not_answer_delays_no_process() -> None:
    """It accepts connections and says nothing: the flush gives up by itself, far before the exporter would."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = f"""
import time
from craft.infra.observe import telemetry
from craft.infra.settings.settings import Settings
telemetry.configure(Settings(otlp_endpoint="http://127.0.0.1:{silent.getsockname()[1]}"), "test")
with telemetry.request_span(method="GET", traceparent=None, request_id="r"):
    pass
began = time.monotonic()
telemetry.flush(0.2)
assert time.monotonic() - began < 3.0
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_configuring_again_changes_where_spans_go(collector: Collector) -> None:
    with collected("other") as second:
        ask("/here/1")
        assert [span.service for span in second.spans()] == ["craft-other"]
    telemetry.configure(Settings(otlp_endpoint=f"{collector.url}/v1/traces"), "third")
    ask("/here/1")
    assert [span.service for span in collector.spans()] == ["craft-third"]
