"""Workers that wait for their device leave notes, which grow old and are forgotten."""

from pathlib import Path

import pytest

from craft.contracts.stages.kinds import Service
from craft.infra.storage.sick_workers import FRESH_SECONDS, SickWorkers


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notes(tmp_path: Path, clock: Clock) -> SickWorkers:
    return SickWorkers(tmp_path, clock=clock)


def test_the_newest_note_of_a_service_comes_first_and_each_place_has_one(notes: SickWorkers, clock: Clock) -> None:
    notes.note(Service.TRAINING, "a/gpu0", "first")
    notes.note(Service.SCORING, "a/gpu0", "of another service")
    for place, words in (("b", "second"), ("a/gpu0", "third")):
        clock.now += 1
        notes.note(Service.TRAINING, place, words)
    assert [(note.place, note.words) for note in notes.of(Service.TRAINING)] == [("a/gpu0", "third"), ("b", "second")]


def test_a_worker_that_is_well_is_forgotten(notes: SickWorkers) -> None:
    notes.note(Service.TRAINING, "a", "sick")
    notes.forget(Service.TRAINING, "a")
    notes.forget(Service.TRAINING, "never noted")
    assert notes.of(Service.TRAINING) == []


def test_a_note_that_nobody_renews_grows_old(notes: SickWorkers, clock: Clock) -> None:
    notes.note(Service.TRAINING, "a", "sick")
    clock.now += FRESH_SECONDS + 1
    assert notes.of(Service.TRAINING) == []


@pytest.mark.parametrize("text", ["", "{}", "x" * 100_000, "[]"])
def test_a_file_that_is_no_note_hides_no_other(tmp_path: Path, notes: SickWorkers, text: str) -> None:
    notes.note(Service.TRAINING, "a", "sick")
    (tmp_path / "workers" / "training-garbage.json").write_text(text)
    assert [note.place for note in notes.of(Service.TRAINING)] == ["a"]


def test_a_folder_that_cannot_be_written_stops_no_worker(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("a file")
    notes = SickWorkers(tmp_path)
    notes.note(Service.TRAINING, "a", "sick")
    notes.forget(Service.TRAINING, "a")
    assert notes.of(Service.TRAINING) == []
