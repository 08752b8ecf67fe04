"""Turns on one processor."""

import threading
from pathlib import Path

from craft.infra.device import always, turn_on


def test_a_turn_is_had_by_one_at_a_time_and_passed_on(tmp_path: Path) -> None:
    turn = turn_on(tmp_path / "state" / "device.lock")
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with turn(threading.Event()) as had:
            order.append(f"second {had}")

    with turn(threading.Event()) as had:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append(f"first {had}")
    thread.join(5)
    assert order == ["first True", "second True"]


def test_waiting_ends_when_told_to_stop(tmp_path: Path) -> None:
    turn = turn_on(tmp_path / "device.lock")
    stopping = threading.Event()
    found: list[bool] = []

    def wait() -> None:
        with turn(stopping) as had:
            found.append(had)

    with turn(threading.Event()):
        thread = threading.Thread(target=wait)
        thread.start()
        stopping.set()
        thread.join(5)
    assert found == [False]


def test_a_processor_of_ones_own_is_always_free_until_told_to_stop() -> None:
    stopping = threading.Event()
    with always(stopping) as had:
        assert had
    stopping.set()
    with always(stopping) as had:
        assert not had
