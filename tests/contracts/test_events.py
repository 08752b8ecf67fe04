"""Events and the states of a stage as they travel."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from craft.contracts.events import EventRecord, EventType, StageStatus

JOB = f"cjob_{'0' * 26}"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_three_events_end_a_job() -> None:
    assert {e.value for e in EventType if e.terminal} == {"job.succeeded", "job.failed", "job.cancelled"}


def test_a_stage_can_still_change_while_pending_ready_or_running() -> None:
    assert {s.value for s in StageStatus if not s.terminal} == {"pending", "ready", "running"}


def test_events_are_numbered_from_1() -> None:
    assert EventRecord(job_id=JOB, seq=1, type=EventType.JOB_CREATED, created_at=NOON).data == {}
    with pytest.raises(ValidationError):
        EventRecord(job_id=JOB, seq=0, type=EventType.JOB_CREATED, created_at=NOON)
