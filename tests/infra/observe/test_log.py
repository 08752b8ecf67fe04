"""Logs are events with fields, one per line, without secrets."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from craft.contracts.stages.claims import ClaimedStage
from craft.contracts.stages.parameters import FlowParameters
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.worker.stage_log import LogBuffer

TOKEN = "correct-horse-battery"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(stream: io.StringIO, log_format: str) -> None:
    settings = Settings.model_validate(
        {
            "log_format": log_format,
            "worker_token": SecretStr(TOKEN),
            "database_url": "postgresql://craft:pass%40word@db/craft",
        }
    )
    log.configure(settings, "scoring-worker", stream=stream)


def test_a_json_line_has_its_fields(stream: io.StringIO) -> None:
    configured(stream, "json")
    log.stage_logger(job="cjob_1", stage="tune:craft", attempt=2).info("stage_started", extra={"total": 3})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "service": "scoring-worker",
        "event": "stage_started",
        "job": "cjob_1",
        "stage": "tune:craft",
        "attempt": 2,
        "total": 3,
    }


def claimed() -> ClaimedStage:
    return ClaimedStage(
        stage_id="stg_1",
        job_id="cjob_1",
        name="flow",
        attempt=2,
        fence=7,
        key="a" * 64,
        parameters=FlowParameters(),
        inputs={},
        lease_seconds=90,
        beat_seconds=15,
        timeout_seconds=60,
        traceparent=TRACEPARENT,
    )


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_within_a_request_says_which(stream: io.StringIO, log_format: str) -> None:
    configured(stream, log_format)
    with telemetry.request_span(method="GET", traceparent=TRACEPARENT, request_id="req_1"):
        logging.getLogger("some.library").warning("careful", extra={"field": 1})
    logging.getLogger("some.library").warning("later")
    inside, outside = stream.getvalue().splitlines()
    if log_format == "json":
        line = json.loads(inside)
        assert (line["field"], line["request_id"], line["trace_id"]) == (1, "req_1", TRACE)
    else:
        assert inside.endswith(f"careful field=1 request_id=req_1 trace_id={TRACE}")
    assert "trace_id" not in outside
    assert "request_id" not in outside


def test_a_stages_lines_carry_its_trace_in_every_thread(stream: io.StringIO) -> None:
    configured(stream, "json")
    with telemetry.stage_span(claimed()):
        logger = log.stage_logger(job="cjob_1", stage="flow", attempt=2)
        logging.getLogger("craft.worker").warning("renewal_failed")
    thread = threading.Thread(target=logger.info, args=("stage_log",))
    thread.start()
    thread.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["renewal_failed", "stage_log"]
    for line in lines:
        assert (line["job"], line["stage"], line["attempt"], line["trace_id"]) == ("cjob_1", "flow", 2, TRACE)


def test_a_lines_own_fields_win(stream: io.StringIO) -> None:
    configured(stream, "json")
    with telemetry.request_span(method="GET", traceparent=None, request_id="req_1"):
        logging.getLogger("x").info("forwarded", extra={"request_id": "req_2"})
    assert json.loads(stream.getvalue())["request_id"] == "req_2"


def test_a_text_line_is_one_line_whatever_it_says(stream: io.StringIO) -> None:
    configured(stream, "text")
    logging.getLogger("x").info("event", extra={"line": "a\nERROR forged", "empty": ""})
    assert stream.getvalue().count("\n") == 1
    assert 'line="a\\nERROR forged" empty=""' in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_never_appear(stream: io.StringIO, log_format: str) -> None:
    configured(stream, log_format)
    logger = logging.getLogger("x")
    logger.info("token %s", TOKEN, extra={"field": {"a": [TOKEN, 1, None]}, "other": ValueError(TOKEN)})
    with telemetry.request_span(method="GET", traceparent=None, request_id=TOKEN):
        logger.info("asked")
    try:
        raise RuntimeError(f"postgresql://craft:pass%40word@db/craft {TOKEN}")
    except RuntimeError:
        logger.exception("crashed")
    assert TOKEN not in stream.getvalue()
    assert "pass%40word" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") >= 5
    assert "RuntimeError" in stream.getvalue()


def test_configuring_twice_writes_each_line_once(stream: io.StringIO) -> None:
    configured(stream, "text")
    configured(stream, "text")
    logging.getLogger("x").info("once")
    assert stream.getvalue().count("once") == 1


def test_a_secret_too_short_to_search_for_destroys_no_log() -> None:
    assert log.redactor(Settings(worker_token=SecretStr("a")))("a banana") == "a banana"


def test_a_stage_that_prints_too_fast_loses_its_oldest_lines_and_says_so() -> None:
    lines = LogBuffer(max_waiting=3)
    for n in range(5):
        lines.append(str(n))
    assert lines.take() == ["[2 lines dropped]", "2", "3", "4"]
    assert not lines.waiting


def test_no_call_takes_more_lines_than_the_contract_allows() -> None:
    lines = LogBuffer()
    for n in range(2500):
        lines.append(str(n))
    batches = [lines.take(), lines.take(), lines.take(), lines.take()]
    assert [len(batch) for batch in batches] == [1000, 1000, 500, 0]


def test_restored_lines_come_first_again() -> None:
    lines = LogBuffer()
    lines.append("a")
    taken = lines.take()
    lines.append("b")
    lines.restore(taken)
    assert lines.take() == ["a", "b"]
