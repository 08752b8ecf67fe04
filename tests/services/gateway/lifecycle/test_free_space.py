"""A stage may start only while the disk has space for what it writes."""

from pathlib import Path

from craft_gateway.lifecycle.free_space import FreeSpace


class Disk:
    """So many bytes are free, and it counts how often it is looked at."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    def __call__(self, folder: Path) -> int:
        self.looks += 1
        return self.free


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_there_is_room_down_to_the_limit(tmp_path: Path) -> None:
    for free, room in ((1001, True), (1000, True), (999, False), (0, False)):
        assert FreeSpace(tmp_path, min_free_bytes=1000, free=Disk(free))() is room


def test_a_limit_of_nothing_switches_it_off(tmp_path: Path) -> None:
    disk = Disk(0)
    assert FreeSpace(tmp_path, min_free_bytes=0, free=disk)()
    assert disk.looks == 0


def test_the_disk_is_looked_at_once_a_second(tmp_path: Path) -> None:
    disk, clock = Disk(5), Clock()
    room = FreeSpace(tmp_path, min_free_bytes=10, free=disk, clock=clock)
    assert [room(), room(), room.free_bytes(), disk.looks] == [False, False, 5, 1]
    disk.free = 20
    clock.now += 0.9
    assert not room()
    clock.now += 0.1
    assert room()
    assert disk.looks == 2


def test_a_real_disk_has_some_bytes_free(tmp_path: Path) -> None:
    assert FreeSpace(tmp_path, min_free_bytes=1).free_bytes() > 0


def test_a_folder_that_cannot_be_read_has_no_space(tmp_path: Path) -> None:
    room = FreeSpace(tmp_path / "gone", min_free_bytes=1)
    assert (room(), room.free_bytes()) == (False, 0)
