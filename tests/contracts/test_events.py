"""The types of events and the statuses of stages."""

from craft.contracts.events import EventType, StageStatus


def test_three_events_end_a_job() -> None:
    assert {e.value for e in EventType if e.terminal} == {"job.succeeded", "job.failed", "job.cancelled"}


def test_a_stage_can_still_change_while_pending_ready_or_running() -> None:
    assert {s.value for s in StageStatus if not s.terminal} == {"pending", "ready", "running"}


def test_what_tells_of_an_adapter_ends_nothing() -> None:
    of_adapters = [e for e in EventType if e.of_adapter]
    names = {"deployed", "withdrawn", "publishing", "published", "publish_failed"}
    assert {e.value for e in of_adapters} == {f"adapter.{name}" for name in names}
    assert not any(e.terminal for e in of_adapters)


def test_pending_and_ready_stages_wait() -> None:
    assert {s.value for s in StageStatus if s.waits} == {"pending", "ready"}
